"""How a stacked supernet's few large tensors hold the original's many small ones: by source state, then by edge."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpc.models.layout import CellPlace
from darts_hpc.space.genotypes import PRIMITIVES

NUM_NODES, NUM_EDGES = 4, 14
STAGES = ((2, 4), (1, 3), (1, 2), (1, 1))
"""(source states S, out-edges E of each): states 0 and 1 together, then one node after the other."""
STAGE_EDGES = [states * edges for states, edges in STAGES]
NONE, MAX, AVG, SKIP, SEP3, SEP5, DIL3, DIL5 = range(len(PRIMITIVES))
SEP_A, DIL, SEP_B = range(3)
"""Roles of a depthwise-pointwise pair: first half of a separable convolution, dilated one, second half."""
KINDS = ((SEP3, DIL3, MAX), (SEP5, DIL5, AVG))
"""Columns that share a stacked tensor's axis of two kinds."""

_EDGES = [(source, node) for source in range(5) for node in range(max(0, source - 1), NUM_NODES)]
ORIGINAL_EDGE = [node * (node + 3) // 2 + source for source, node in _EDGES]
"""Row of alpha, and index in the original's _ops, of each edge in our order, which goes by source."""


class CellWeights(NamedTuple):
    """One cell's weights; `edge` counts in our order, `kind` is 3x3 or 5x5."""

    preprocess0: Tensor  # (C, C_prev_prev)
    preprocess1: Tensor  # (C, C_prev)
    depthwise3: Tensor  # (role 3, edge 14, C, 3, 3)
    depthwise5: Tensor  # (role 3, edge 14, C, 5, 5)
    pointwise: Tensor  # (role 3, edge 14, kind 2, C out, C in)
    skip: Tensor | None = None  # (edge 8, C out, C in): the stride-2 skips of a reduction cell


def cell_weight_shapes(place: CellPlace) -> list[tuple[int, ...]]:
    """Return the shapes of a cell's CellWeights, in order."""
    c = place.channels
    shapes: list[tuple[int, ...]] = [(c, place.prev_prev_channels), (c, place.prev_channels)]
    shapes += [(3, NUM_EDGES, c, 3, 3), (3, NUM_EDGES, c, 5, 5), (3, NUM_EDGES, 2, c, c)]
    return [*shapes, (STAGE_EDGES[0], c, c)] if place.reduction else shapes


def branches(place: CellPlace, stage: int) -> int:
    """Return how many branches of C channels a stage normalises: dilated, separable, stride-2 skips, pools."""
    states, edges = STAGES[stage]
    return 4 * states * edges + (states * edges if place.reduction and stage == 0 else 0) + 2 * states


def norm_channels(place: CellPlace) -> list[int]:
    """Return the channels of a cell's stacked BatchNorms: entering states; halves of the separables; branches."""
    c = place.channels
    halves = [2 * edges * c for edges in STAGE_EDGES]
    return [2 * c, *halves, *(branches(place, stage) * c for stage in range(len(STAGES)))]


def original_weights(weights: CellWeights, place: CellPlace) -> Iterator[tuple[str, Tensor]]:
    """Yield (name in the original's cell, view of ours), once for each of its weights."""
    yield from _enter("preprocess0", weights.preprocess0, place.reduction_prev)
    yield from _enter("preprocess1", weights.preprocess1, False)
    for edge in range(NUM_EDGES):
        ops = f"_ops.{ORIGINAL_EDGE[edge]}._ops"
        for kind, (separable, dilated, _) in enumerate(KINDS):
            depthwise = (weights.depthwise3, weights.depthwise5)[kind]
            for column, first, role in ((separable, 1, SEP_A), (separable, 5, SEP_B), (dilated, 1, DIL)):
                yield f"{ops}.{column}.op.{first}.weight", depthwise[role, edge].unsqueeze(1)
                yield f"{ops}.{column}.op.{first + 1}.weight", weights.pointwise[role, edge, kind, :, :, None, None]
        if weights.skip is not None and edge < len(weights.skip):
            yield from _factorized(f"{ops}.{SKIP}", weights.skip[edge])


def _enter(name: str, weight: Tensor, factorized: bool) -> Iterator[tuple[str, Tensor]]:
    if factorized:
        yield from _factorized(name, weight)
    else:
        yield f"{name}.op.1.weight", weight[:, :, None, None]


def _factorized(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    half = len(weight) // 2
    yield f"{name}.conv_1.weight", weight[:half, :, None, None]
    yield f"{name}.conv_2.weight", weight[half:, :, None, None]


def original_norms(statistics: Sequence[Tensor], place: CellPlace) -> Iterator[tuple[str, Tensor]]:
    """Yield (name of a BatchNorm in the original's cell, view of its channels), for one vector per stacked BatchNorm.

    A pool is normalised once for all out-edges of its state, so their BatchNorms share a view.
    """
    c = place.channels
    enter, halves, outs = statistics[0], statistics[1 : 1 + len(STAGES)], statistics[1 + len(STAGES) :]
    yield "preprocess0.bn" if place.reduction_prev else "preprocess0.op.2", enter[:c]
    yield "preprocess1.op.2", enter[c:]
    edge = 0
    for stage, (states, edges) in enumerate(STAGES):
        num_edges, half, out = states * edges, halves[stage].view(-1, c), outs[stage].view(-1, c)
        for own in range(num_edges):
            ops = f"_ops.{ORIGINAL_EDGE[edge]}._ops"
            for kind, (separable, dilated, pool) in enumerate(KINDS):
                branch = 2 * own + kind
                yield f"{ops}.{separable}.op.3", half[branch]
                yield f"{ops}.{dilated}.op.3", out[branch]
                yield f"{ops}.{separable}.op.7", out[2 * num_edges + branch]
                yield f"{ops}.{pool}.1", out[len(out) - 2 * states + kind * states + own // edges]
            if place.reduction and stage == 0:
                yield f"{ops}.{SKIP}.bn", out[4 * num_edges + own]
            edge += 1


class MixingPlan(NamedTuple):
    """Where a cell's stages find their weights in one vector gathered from softmax(alpha)."""

    positions: Tensor  # (num_mixing_weights,) in the flattened (E, O + 1) weights of operations, whose last column is 1
    sizes: list[int]  # its parts: the scales of all stages' branches, then each stage's mixing weights


def mixing_plan(reduction: bool) -> MixingPlan:
    """Return the plan of a kind of cell.

    A stage's scales are its branches' mixing weights, in their order, and 1 for the pools: these are normalised once
    per state, and mixing weights of their own (E, pools and skip x S) add them up for each out-edge.
    """
    one, width = len(PRIMITIVES), len(PRIMITIVES) + 1
    scales: list[list[int]] = []
    mixing: list[list[int]] = []
    start = 0
    for stage, (states, edges) in enumerate(STAGES):
        rows = [width * edge for edge in ORIGINAL_EDGE[start : start + states * edges]]
        start += states * edges
        factorized = reduction and stage == 0
        scale = [row + column for columns in ((DIL3, DIL5), (SEP3, SEP5)) for row in rows for column in columns]
        scale += [row + SKIP for row in rows] if factorized else []
        scales.append(scale + [one] * (2 * states))
        columns = (MAX, AVG) if factorized else (MAX, AVG, SKIP)
        mixing.append([rows[s * edges + e] + column for e in range(edges) for column in columns for s in range(states)])
    positions = torch.tensor([position for part in scales + mixing for position in part])
    return MixingPlan(positions, [sum(map(len, scales)), *map(len, mixing)])
