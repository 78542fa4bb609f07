"""A derived cell whose like edges are computed as one operation."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.derived import Cell
from darts_hpc.models.derived_fast.layers import Names, StackedLayers, corners_side_by_side, side_by_side
from darts_hpc.models.derived_fast.packing import Stack
from darts_hpc.space.operations import DilatedConv, FactorizedReduce, Noise, SeparableConv, Zero

STACKED = (SeparableConv, DilatedConv, FactorizedReduce, nn.Sequential)
"""Operations whose edges are stacked; a Sequential is conv_7x1_1x7."""
SHARED = (nn.MaxPool2d, nn.AvgPool2d, nn.Identity, Noise, Zero)
"""Operations without weights, computed once per state; noise once per edge."""


class Group(NamedTuple):
    """Edges of a cell that are computed as one operation."""

    edges: tuple[int, ...]
    states: tuple[int, ...]
    """The states they read, ascending."""
    counts: tuple[int, ...]
    """By how many of the edges each of the states is read."""


class FastCell(nn.Module):
    """A derived cell behind its preprocessing. It owns BatchNorm's statistics; its weights are handed in.

    Attributes:
        layers: for each of `groups` its StackedLayers, or the module that needs no weights.
        stacks: the weights, in the order in which forward takes them.
    """

    def __init__(self, cell: Cell, names: Names, stack_edges: bool):
        super().__init__()
        self.groups = group_edges(cell, stack_edges)
        self.layers = nn.ModuleList(_layers([cell._ops[edge] for edge in group.edges], names) for group in self.groups)
        self.stacks: list[Stack] = []
        self._first_stacks: list[int] = []  # of each group
        for layers in self.layers:
            self._first_stacks.append(len(self.stacks))
            self.stacks += layers.stacks if isinstance(layers, StackedLayers) else []
        self._group_of = {edge: index for index, group in enumerate(self.groups) for edge in group.edges}
        self._num_nodes, self._concat = len(cell._ops) // 2, tuple(cell.concat)
        paths = iter(range(cell.first_path, cell.first_path + sum(cell.droppable)))
        self._path_of = [next(paths) if droppable else None for droppable in cell.droppable]

    def forward(
        self, s0: Tensor, s1: Tensor, keep: Sequence[Tensor] | None, keys: Tensor | None, *weights: Tensor
    ) -> Tensor:
        """Return the concatenated nodes.

        Args:
            s0, s1: the two previous states, preprocessed.
            keep: drop path's factors (B, 1, 1, 1) of all paths of the network.
            keys: of the images (B,), by which noise is drawn.
            weights: of `stacks`, in order.
        """
        states = [s0, s1]
        ends: dict[int, Tensor] = {}
        rectified: dict[int, Tensor] = {}
        for node in range(self._num_nodes):
            first, second = 2 * node, 2 * node + 1
            for edge in (first, second):
                if edge not in ends:
                    ends |= self._run(self._group_of[edge], states, rectified, keys, weights)
            factors = [
                None if keep is None or path is None else keep[path] for path in self._path_of[first : second + 1]
            ]
            states.append(_add(ends.pop(first), ends.pop(second), *factors))
        return torch.cat([states[number] for number in self._concat], 1)

    def _run(
        self,
        index: int,
        states: list[Tensor],
        rectified: dict[int, Tensor],
        keys: Tensor | None,
        weights: Sequence[Tensor],
    ) -> dict[int, Tensor]:
        """Return the ends of a group's edges, by edge."""
        group, layers = self.groups[index], self.layers[index]
        if isinstance(layers, StackedLayers):
            for state in group.states:
                if state not in rectified:
                    rectified[state] = F.relu(states[state])
            join = corners_side_by_side if layers.reads_corners else side_by_side
            x = join([rectified[state] for state in group.states], group.counts)
            ends = layers(x, iter(weights[self._first_stacks[index] :])).chunk(len(group.edges), 1)
            return dict(zip(group.edges, ends, strict=True))
        x = states[group.states[0]]
        end: Tensor = layers(x, keys) if isinstance(layers, Noise) else layers(x)
        return dict.fromkeys(group.edges, end)


def _add(a: Tensor, b: Tensor, keep_a: Tensor | None, keep_b: Tensor | None) -> Tensor:
    """Return a * keep_a + b * keep_b, where None is 1."""
    if keep_a is None:
        a, b, keep_a, keep_b = b, a, keep_b, keep_a
    if keep_a is None:
        return a + b
    return torch.addcmul(b if keep_b is None else b * keep_b, a, keep_a)


def group_edges(cell: Cell, stack_edges: bool) -> list[Group]:
    """Return the edges of a cell in groups, each of one operation on states that are there at the same time.

    Without stack_edges only those are together that share their result.
    """
    alike: dict[Hashable, list[int]] = {}
    for edge, (op, state) in enumerate(zip(cell._ops, cell.inputs, strict=True)):
        alone = isinstance(op, STACKED) and not stack_edges
        alike.setdefault(edge if alone else _likeness(edge, op, state), []).append(edge)
    groups = []
    for edges in alike.values():
        edges = sorted(edges, key=lambda edge: cell.inputs[edge])
        read = [cell.inputs[edge] for edge in edges]
        states = tuple(sorted(set(read)))
        groups.append(Group(tuple(edges), states, tuple(read.count(state) for state in states)))
    return groups


def can_group(op: nn.Module) -> bool:
    """Return whether a fast cell can have this operation: those of space.operations, and not one of a user's own."""
    if type(op) is nn.Sequential:
        return [getattr(layer, "kernel_size", None) for layer in op] == [None, (1, 7), (7, 1), None]
    return type(op) in (*STACKED, *SHARED)


def _likeness(edge: int, op: nn.Module, state: int) -> Hashable:
    """Return what edges have in common that are computed as one: states 0 and 1 are there from the start."""
    when = max(state, 1) if isinstance(op, STACKED) else state
    match op:
        case SeparableConv() | DilatedConv():
            convolution = op.op[1]
            assert isinstance(convolution, nn.Conv2d)
            return type(op), when, convolution.kernel_size, convolution.stride
        case nn.Sequential():
            return type(op), when, state < 2
        case nn.MaxPool2d() | nn.AvgPool2d() | Zero():
            return type(op), when, op.stride
        case Noise():
            return type(op), edge  # each has numbers of its own
        case _:
            return type(op), when


def _layers(ops: Sequence[nn.Module], names: Names) -> nn.Module:
    """Return the module of a group, behind the ReLU of its states."""
    first = ops[0]
    if isinstance(first, FactorizedReduce):
        return factorized_reduces([op for op in ops if isinstance(op, FactorizedReduce)], names)
    if isinstance(first, STACKED):
        sequences = [op if isinstance(op, nn.Sequential) else op.get_submodule("op") for op in ops]
        return StackedLayers(list(zip(*(list(sequence.children())[1:] for sequence in sequences), strict=True)), names)
    return first


def factorized_reduces(reduces: Sequence[FactorizedReduce], names: Names) -> StackedLayers:
    """Return the layers of factorized reductions, which read corners_side_by_side."""
    halves = [half for reduce in reduces for half in (reduce.conv_1, reduce.conv_2)]
    return StackedLayers([halves, [reduce.bn for reduce in reduces]], names, reads_corners=True)
