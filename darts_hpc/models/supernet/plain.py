"""The relaxed network, a module for each edge and operation: its cells and how they are chained."""

import torch
from torch import Tensor, nn

from darts_hpc.models.drop_path import drop_path_factors
from darts_hpc.models.layout import place_cells
from darts_hpc.models.recompute import recompute
from darts_hpc.models.stems import STEMS
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State
from darts_hpc.models.supernet.mixing import CellMixing, Mixing
from darts_hpc.models.supernet.out_edges import can_run_together, run_out_edges
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import FactorizedReduce, ReLUConvBN, place_noise
from darts_hpc.space.spaces import EdgeLists, SearchSpace, uniform_space

STEM_MULTIPLIER = 3
"""Channels of a stem for each of init_channels, on ImageNet too (PC-DARTS)."""


class Cell(nn.Module):
    """A cell with an edge from every earlier state into every node.

    Args:
        edges: the candidates of each of its E edges.
        partial_channels, auxiliary_skip: as for MixedOp.
    """

    def __init__(
        self,
        prev_prev_channels: int,
        prev_channels: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
        edges: EdgeLists,
        partial_channels: int = 1,
        auxiliary_skip: bool = False,
    ):
        super().__init__()
        self.reduction, self.partial_channels = reduction, partial_channels
        enter = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess0 = enter(prev_prev_channels, channels, affine=False)
        self.preprocess1 = ReLUConvBN(prev_channels, channels, affine=False)
        self._ops = nn.ModuleList()
        self.num_nodes = 0
        while len(self._ops) < len(edges):
            for state in range(2 + self.num_nodes):
                stride, primitives = 2 if reduction and state < 2 else 1, edges[len(self._ops)]
                self._ops.append(MixedOp(channels, stride, primitives, partial_channels, auxiliary_skip))
            self.num_nodes += 1

    def forward(
        self, s0: Tensor, s1: Tensor, mixing: CellMixing, keys: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Return the concatenated nodes (B, num_nodes * C, H', W').

        Args:
            keys: of the images (B,), for noise.
            keep: drop path's factors (E, B, 1, 1, 1), if any.
        """
        operations, num_edges = mixing.operations, len(self._ops)
        if mixing.edges is not None:
            operations = operations * mixing.edges[:, None]
        rows = operations.unbind()
        edge_weights = [None] * num_edges if mixing.edges is None else mixing.edges.unbind()
        columns = [None] * num_edges if mixing.columns is None else mixing.columns
        nodes = [NodeSum(self.partial_channels) for _ in range(self.num_nodes)]
        states: list[State] = []
        done: set[int] = set()

        def enter(x: Tensor) -> None:
            states.append(state := State(x, keys, self.partial_channels))
            out_edges = self._out_edges(len(states) - 1)
            ops = [self._edge(edge) for edge in out_edges]
            if keep is None and mixing.columns is None and can_run_together(state, ops):
                run_out_edges(state, ops, [rows[edge] for edge in out_edges], nodes[-len(ops) :])
                done.update(out_edges)

        enter(self.preprocess0(s0))
        enter(self.preprocess1(s1))
        edge = 0
        for node in nodes:
            for state in list(states):
                op, target = self._edge(edge), node if keep is None else NodeSum(self.partial_channels)
                if edge not in done:
                    op(state, rows[edge], target, columns[edge])
                op.add_beside(state, edge_weights[edge], mixing.auxiliary, target)
                if keep is not None:
                    target.complete(op, state)
                    node.add_whole(target.total() * keep[edge])
                edge += 1
            if keep is None:
                node.complete(self._edge(edge - 1), states[-1])
            enter(node.total())
        return torch.cat([state.x for state in states[2:]], dim=1)

    def _edge(self, edge: int) -> MixedOp:
        op = self._ops[edge]
        assert isinstance(op, MixedOp)
        return op

    def _out_edges(self, state: int) -> list[int]:
        """Return the edges from a state, to the last of the nodes in their order."""
        first = max(0, state - 1)
        return [node * (node + 3) // 2 + state for node in range(first, self.num_nodes)]


class SuperNet(RelaxedNetwork):
    """The network of the search, weights and alphas.

    Args:
        init_channels: channels of the first cells, even.
        layers: number of cells, the two at a third and two thirds of the depth halve the resolution.
        num_classes: outputs.
        num_nodes: nodes of a cell; E = num_nodes * (num_nodes + 3) / 2 edges.
        primitives: the O candidate operations of every edge, where `space` is None.
        checkpoint_cells: keep only the cells' inputs for backward, which recomputes each cell.
        space: the candidates of each edge.
        partial_channels: K; candidates take C / K of the channels (PC-DARTS).
        auxiliary_skip: whether every edge has a skip connection besides its candidates (DARTS-).
        edge_norm: whether the edges of a node have weights of their own (PC-DARTS).
        stem: a name in STEMS.
    """

    stem: nn.Sequential  # of CIFAR; ImageNet's are stem0 and stem1

    def __init__(
        self,
        init_channels: int,
        layers: int,
        num_classes: int,
        num_nodes: int = 4,
        primitives: tuple[str, ...] = PRIMITIVES,
        checkpoint_cells: bool = False,
        *,
        space: SearchSpace | None = None,
        partial_channels: int = 1,
        auxiliary_skip: bool = False,
        edge_norm: bool = False,
        stem: str = "cifar",
    ):
        space = uniform_space(primitives, num_nodes) if space is None else space
        super().__init__(space.num_nodes, space.column_labels)
        num_nodes = space.num_nodes
        self.checkpoint_cells = checkpoint_cells
        width = STEM_MULTIPLIER * init_channels
        stems = STEMS[stem].build(width, 3)
        for name, module in stems.items():
            self.add_module(name, module)
        self.stems = tuple(stems)
        reduced = STEMS[stem].reduces
        places = list(place_cells(layers, init_channels, (width, width), (num_nodes, num_nodes), reduced))
        self.cells = nn.ModuleList(
            Cell(*place, space.reduce if place.reduction else space.normal, partial_channels, auxiliary_skip)
            for place in places
        )
        place_noise(self.cells)
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(num_nodes * places[-1].channels, num_classes)
        self.draw_alphas(edge_norm)

    def forward(self, images: Tensor, mixing: Mixing | None = None, keys: Tensor | None = None) -> Tensor:
        """Return logits (B, num_classes) for images (B, 3, H, W), whose keys (B,) draw noise."""
        mixing = self.softmax_mixing() if mixing is None else mixing
        first, *others = (self.get_submodule(name) for name in self.stems)
        s0 = s1 = first(images)
        for module in others:
            s1 = module(s1)
        keeps: list[Tensor | None] = [None] * len(self.cells)
        if mixing.drop_path is not None:
            num_edges = len(mixing.normal.operations)
            factors = drop_path_factors(keys, len(s0), num_edges * len(self.cells), mixing.drop_path, s0)
            keeps = list(factors.split(num_edges))
        for cell, keep in zip(self.cells, keeps, strict=True):
            assert isinstance(cell.reduction, bool)
            inputs = s0, s1, mixing.of(cell.reduction), keys, keep
            s0, s1 = s1, recompute(cell, *inputs) if self.checkpoint_cells else cell(*inputs)
        return self.classifier(self.global_pooling(s1).flatten(1))
