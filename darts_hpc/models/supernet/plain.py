"""The relaxed network: every edge runs every candidate operation, mixed by softmax(alpha) (paper, equation 2)."""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.layout import place_cells
from darts_hpc.models.norm import batch_norm
from darts_hpc.models.recompute import recompute
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import OPERATIONS, DilatedConv, FactorizedReduce, ReLUConvBN, SeparableConv
from darts_hpc.space.phases import can_split, even_pixels, merge_phases, phases_pay, split_phases

STEM_MULTIPLIER = 3


class State:
    """A state x (B, C, H, W) of a cell, and what the candidates of all its out-edges share, made once."""

    def __init__(self, x: Tensor):
        self.x = x
        self._pools: dict[tuple[str, int], Tensor] = {}

    @cached_property
    def rectified(self) -> Tensor:
        """Its ReLU, which every convolution starts with."""
        return F.relu(self.x)

    @cached_property
    def phases(self) -> Tensor:
        """Its ReLU's four phases, for the dilated convolutions of stride 1."""
        return split_phases(self.rectified)

    @cached_property
    def even_pixels(self) -> Tensor:
        """Its ReLU's even rows and columns, for the dilated convolutions of stride 2."""
        return even_pixels(self.rectified)

    def pooled(self, pool: nn.MaxPool2d | nn.AvgPool2d) -> Tensor:
        """Its pool, the same for all edges of a stride."""
        key = type(pool).__name__, int(pool.stride)  # pyright: ignore[reportArgumentType]
        if key not in self._pools:
            self._pools[key] = pool(self.x)
        return self._pools[key]


class NodeSum:
    """A node in the making: what its edges have added. Terms in phases are merged once, at the end."""

    def __init__(self):
        self._terms: list[Tensor] = []
        self._phases: list[Tensor] = []

    def add(self, term: Tensor, in_phases: bool = False) -> None:
        (self._phases if in_phases else self._terms).append(term)

    def total(self) -> Tensor:
        """Return the sum (B, C, H, W)."""
        if self._phases:
            self._terms.append(merge_phases(_total(self._phases)))
        return _total(self._terms)


def _total(terms: list[Tensor]) -> Tensor:
    total = sum(terms[1:2], terms[0])
    for term in terms[2:]:
        total += term  # in place: what was just made is still in the cache
    return total


class MixedOp(nn.Module):
    """All candidate operations of one edge, weighted."""

    def __init__(self, channels: int, stride: int, primitives: tuple[str, ...]):
        super().__init__()
        self._ops = nn.ModuleList(_candidate(name, channels, stride) for name in primitives)
        self._contributing = [column for column, name in enumerate(primitives) if name != "none"]

    def forward(self, state: State, weights: Tensor, node: NodeSum) -> None:
        """Add a state's candidates, weighted by weights (O,), to a node. 'none' has a weight but nothing to add."""
        mixing_weights = weights.unbind()
        for column in self._contributing:
            _add_scaled(node, self._ops[column], state, mixing_weights[column])


def _add_scaled(node: NodeSum, candidate: nn.Module, state: State, weight: Tensor) -> None:
    """Add weight * candidate(state). Where the candidate ends with a BatchNorm, the weight is that one's scale: a pass
    over the memory less, and its backward yields the weight's gradient."""
    match candidate:
        case nn.Sequential() if isinstance(pool := candidate[0], nn.MaxPool2d | nn.AvgPool2d):
            node.add(_normalised(candidate[1], state.pooled(pool), weight))
        case DilatedConv() if phases_pay(state.x) and candidate.stride == 2:
            node.add(_normalised(candidate.op[-1], candidate.pre_norm_phases(state.even_pixels), weight))
        case DilatedConv() if phases_pay(state.x) and can_split(state.x, candidate.kernel_size):
            phases = candidate.pre_norm_phases(state.phases)
            node.add(_normalised(candidate.op[-1], phases, weight), in_phases=True)
        case SeparableConv() | DilatedConv():
            node.add(_normalised(candidate.op[-1], candidate.pre_norm(state.rectified), weight))
        case FactorizedReduce():
            node.add(_normalised(candidate.bn, candidate.pre_norm(state.rectified), weight))
        case _:
            node.add(weight * candidate(state.x))


def _normalised(norm: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    return batch_norm(norm, x, weight.expand(x.shape[1]))


def _candidate(name: str, channels: int, stride: int) -> nn.Module:
    operation = OPERATIONS[name](channels, stride, False)
    # No candidate has learnt scales, which would compete with alpha; pools get the BatchNorm the others end with.
    return nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else operation


class Cell(nn.Module):
    """A cell with an edge from every earlier state into every node."""

    def __init__(
        self,
        prev_prev_channels: int,
        prev_channels: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
        num_nodes: int,
        primitives: tuple[str, ...],
    ):
        super().__init__()
        self.reduction = reduction
        self.num_nodes = num_nodes
        enter = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess0 = enter(prev_prev_channels, channels, affine=False)
        self.preprocess1 = ReLUConvBN(prev_channels, channels, affine=False)
        self._ops = nn.ModuleList(
            MixedOp(channels, 2 if reduction and state < 2 else 1, primitives)
            for node in range(num_nodes)
            for state in range(2 + node)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Return the concatenated nodes (B, num_nodes * C, H', W') for weights (E, O)."""
        states = [State(self.preprocess0(s0)), State(self.preprocess1(s1))]
        edges = iter(zip(self._ops, weights.unbind(), strict=True))
        for _ in range(self.num_nodes):
            node = NodeSum()
            for state, (op, weight) in zip(states, edges, strict=False):
                op(state, weight, node)
            states.append(State(node.total()))
        return torch.cat([state.x for state in states[2:]], dim=1)


class SuperNet(RelaxedNetwork):
    """The network of the search, weights and alphas.

    Args:
        init_channels: channels of the first cells, even.
        layers: number of cells, the two at a third and two thirds of the depth halve the resolution.
        num_classes: outputs.
        num_nodes: nodes of a cell; E = num_nodes * (num_nodes + 3) / 2 edges.
        primitives: the O candidate operations.
        checkpoint_cells: keep only the cells' inputs for backward, which runs each cell once more.
    """

    def __init__(
        self,
        init_channels: int,
        layers: int,
        num_classes: int,
        num_nodes: int = 4,
        primitives: tuple[str, ...] = PRIMITIVES,
        checkpoint_cells: bool = False,
    ):
        super().__init__(num_nodes, primitives)
        self.checkpoint_cells = checkpoint_cells
        stem_channels = STEM_MULTIPLIER * init_channels
        self.stem = nn.Sequential(nn.Conv2d(3, stem_channels, 3, padding=1, bias=False), nn.BatchNorm2d(stem_channels))
        places = list(place_cells(layers, init_channels, (stem_channels, stem_channels), (num_nodes, num_nodes), False))
        self.cells = nn.ModuleList(Cell(*place, num_nodes, primitives) for place in places)
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(num_nodes * places[-1].channels, num_classes)
        self.draw_alphas()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) for images (B, 3, H, W)."""
        weights_normal, weights_reduce = self.alphas_normal.softmax(-1), self.alphas_reduce.softmax(-1)
        s0 = s1 = self.stem(images)
        for cell in self.cells:
            weights = weights_reduce if cell.reduction else weights_normal
            s0, s1 = s1, recompute(cell, s0, s1, weights) if self.checkpoint_cells else cell(s0, s1, weights)
        return self.classifier(self.global_pooling(s1).flatten(1))
