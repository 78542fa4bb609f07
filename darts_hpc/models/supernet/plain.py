"""The relaxed network, a module for each edge and operation: its cells and how they are chained."""

import torch
from torch import Tensor, nn

from darts_hpc.models.layout import place_cells
from darts_hpc.models.recompute import recompute
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import FactorizedReduce, ReLUConvBN

STEM_MULTIPLIER = 3


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
