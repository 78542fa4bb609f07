"""Select a cell by perturbation (DARTS-PT: Wang et al., "Rethinking architecture selection", 2021).

Each edge gets the operation whose removal hurts the supernet most, one edge of each kind of cell at a time; then
two edges are kept per node. Between two decisions the supernet is tuned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from darts_hpc import counter_rng
from darts_hpc.config.train_search import SelectionConfig
from darts_hpc.models.supernet.mixing import CellMixing, Mixing
from darts_hpc.search.architecture import KINDS, Architecture
from darts_hpc.search.conditions import Conditions
from darts_hpc.space.spaces import SearchSpace

EDGE_ORDER, NODE_ORDER = 0x5054, 0x5055


class Score(NamedTuple):
    """How well the supernet does on the validation images with some mixing."""

    accuracy: float
    """Percent."""
    loss: float


class Decision(NamedTuple):
    """One decision, and the scores that it is based on."""

    kind: str
    edges: tuple[int, ...]
    """The edge whose operation was chosen, or the two edges of a node that were kept."""
    operation: str | None
    """The operation that was chosen; None where edges were."""
    scores: tuple[Score, ...]
    """Without each candidate in turn."""


class PerturbationSelection:
    """The decisions so far, which a checkpoint keeps, and how the next one is taken.

    Args:
        architecture: holds the decisions.
        space: the operations to choose from; 'none' is never chosen.
        cfg: the criterion, and how many epochs are tuned between two decisions.
        edge_orders, node_orders: for each kind, the edges 0 to E - 1, and the nodes that have more than two inputs, in
            the order of their decisions.
    """

    def __init__(
        self,
        architecture: Architecture,
        space: SearchSpace,
        cfg: SelectionConfig,
        edge_orders: Mapping[str, list[int]],
        node_orders: Mapping[str, list[int]],
    ):
        self.architecture, self.space, self.cfg = architecture, space, cfg
        self.edge_orders, self.node_orders = edge_orders, node_orders
        self.first_epoch: int | None = None
        self.num_decided: dict[str, int] = dict.fromkeys(KINDS, 0)

    @property
    def num_decisions(self) -> int:
        """Decisions of each kind of cell: an operation for every edge, two edges for every later node."""
        return len(self.space.normal) + self.space.num_nodes - 1

    @property
    def num_epochs(self) -> int:
        """Epochs of tuning: the first decision is taken before the first of them, the last decision before the last."""
        return (self.num_decisions - 1) * self.cfg.pt_epochs_between + 1

    def is_due(self, epoch: int) -> bool:
        """Whether a decision is to be taken before an epoch."""
        decided = min(self.num_decided.values())
        if self.first_epoch is None or decided == self.num_decisions:
            return False
        return epoch - self.first_epoch == decided * self.cfg.pt_epochs_between

    def decide(self, score: Callable[[Mixing], Score], conditions: Conditions | None) -> Iterator[Decision]:
        """Yield the next decision for each kind of cell. The reduction cell's is taken with the normal cell's in force.

        A search that was stopped between the two resumes with the second. `score` leaves the supernet as it is.
        """
        num_edges, decided = len(self.space.normal), min(self.num_decided.values())
        for kind in KINDS:
            if self.num_decided[kind] > decided:
                continue
            if decided < num_edges:
                decision = self._choose_operation(kind, self.edge_orders[kind][decided], score, conditions)
            else:
                decision = self._choose_edges(kind, self.node_orders[kind][decided - num_edges], score, conditions)
            self.num_decided[kind] += 1
            yield decision

    def state_dict(self) -> dict[str, Any]:
        """Return how far the selection is; the decisions themselves are in the architecture's state."""
        return {"first_epoch": self.first_epoch, "num_decided": dict(self.num_decided)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore how far the selection is."""
        self.first_epoch, self.num_decided = state["first_epoch"], dict(state["num_decided"])

    def _choose_operation(
        self, kind: str, edge: int, score: Callable[[Mixing], Score], conditions: Conditions | None
    ) -> Decision:
        """Choose the operation without which the score is worst, the first of equals."""
        mixing, names = self.architecture.mix_expected(conditions), getattr(self.space, kind)[edge]
        candidates = [column for column, name in enumerate(names) if name != "none"]
        scores = [score(_without_operation(mixing, kind, edge, column)) for column in candidates]
        worst = min(range(len(scores)), key=lambda index: self._quality(scores[index]))
        column = candidates[worst]
        self.architecture.projections[kind].chosen[edge] = column
        return Decision(kind, (edge,), names[column], tuple(scores))

    def _choose_edges(
        self, kind: str, node: int, score: Callable[[Mixing], Score], conditions: Conditions | None
    ) -> Decision:
        """Drop the edge without which the score is best, the last of equals, until two are left.

        As in the reference, a candidate is scored against all edges of the node but itself, dropped ones included.
        """
        first = node * (node + 3) // 2
        left, scores = list(range(first, first + node + 2)), []
        mixing = self.architecture.mix_expected(conditions)
        while len(left) > 2:
            found = [score(_without_edge(mixing, kind, edge)) for edge in left]
            scores += found
            best = max(range(len(left)), key=lambda index: (self._quality(found[index]), index))
            del left[best]
        for edge in range(first, first + node + 2):
            self.architecture.projections[kind].dropped[edge] = edge not in left
        return Decision(kind, tuple(left), None, tuple(scores))

    def _quality(self, score: Score) -> float:
        return score.accuracy if self.cfg.pt_criterion == "accuracy" else -score.loss


def random_orders(seed: int, space: SearchSpace) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return orders of edges and of nodes with more than two inputs, for each kind: a function of the seed."""

    def order(items: list[int], kind: int, which: int) -> list[int]:
        bits = counter_rng.random_bits(seed, kind, which, torch.tensor(items)).tolist() if items else []
        return [item for _, item in sorted(zip(bits, items, strict=True))]

    edges, nodes = list(range(len(space.normal))), list(range(1, space.num_nodes))
    return (
        {kind: order(edges, index, EDGE_ORDER) for index, kind in enumerate(KINDS)},
        {kind: order(nodes, index, NODE_ORDER) for index, kind in enumerate(KINDS)},
    )


def _without_operation(mixing: Mixing, kind: str, edge: int, column: int) -> Mixing:
    cell: CellMixing = getattr(mixing, kind)
    operations = cell.operations.clone()
    operations[edge, column] = 0  # the others are not scaled up
    columns = cell.columns or tuple(tuple(range(operations.shape[1])) for _ in operations)
    columns = tuple(
        tuple(other for other in row if position != edge or other != column) for position, row in enumerate(columns)
    )
    return replace(mixing, **{kind: replace(cell, operations=operations, columns=columns)})


def _without_edge(mixing: Mixing, kind: str, edge: int) -> Mixing:
    cell: CellMixing = getattr(mixing, kind)
    operations = cell.operations
    kept = torch.ones(len(operations)).to(operations)
    kept[edge] = 0
    columns = cell.columns or tuple(tuple(range(operations.shape[1])) for _ in operations)
    columns = tuple(() if position == edge else row for position, row in enumerate(columns))
    edges = kept if cell.edges is None else cell.edges * kept
    return replace(mixing, **{kind: replace(cell, edges=edges, columns=columns)})
