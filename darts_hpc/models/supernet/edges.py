"""What one edge of a cell computes: every candidate operation, mixed by weights (paper, equation 2)."""

from functools import cached_property

import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.norm import batch_norm
from darts_hpc.space.operations import OPERATIONS, DilatedConv, FactorizedReduce, SeparableConv
from darts_hpc.space.phases import can_split, even_pixels, merge_phases, phases_pay, split_phases


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
