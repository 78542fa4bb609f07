"""The decisions about the edges of one kind of cell, whose operations are selected one by one (DARTS-PT)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Projection:
    """Decided edges have one operation of weight 1, or none at all; the others keep their weights.

    Args:
        num_edges, num_operations: E and O.
    """

    def __init__(self, num_edges: int, num_operations: int):
        self.num_operations = num_operations
        self.chosen: list[int | None] = [None] * num_edges
        self.dropped = [False] * num_edges

    @property
    def is_empty(self) -> bool:
        """Whether nothing is decided."""
        return not any(self.dropped) and all(column is None for column in self.chosen)

    def apply(self, m: Tensor) -> Tensor:
        """Return m (E, O) with decided rows replaced; they pass no gradient on."""
        if self.is_empty:
            return m
        # filled in where m is: a step would wait for what is copied to the device
        rows, decided = torch.zeros_like(m), torch.zeros_like(m, dtype=torch.bool)
        for edge, column in enumerate(self.chosen):
            if self.dropped[edge] or column is not None:
                decided[edge].fill_(True)
            if column is not None and not self.dropped[edge]:
                rows[edge, column].fill_(1.0)
        return torch.where(decided, rows, m)

    def apply_to_edges(self, b: Tensor | None, like: Tensor) -> Tensor | None:
        """Return edge weights (E,) that are 0 for dropped edges; None where all are 1."""
        if not any(self.dropped):
            return b
        kept = like.new_ones(len(self.dropped))
        for edge, dropped in enumerate(self.dropped):
            if dropped:
                kept[edge].fill_(0.0)
        return kept if b is None else b * kept

    def columns(self) -> tuple[tuple[int, ...], ...] | None:
        """Return the candidates that still run on each edge; None where all do."""
        if self.is_empty:
            return None
        return tuple(self._columns(edge) for edge in range(len(self.chosen)))

    def state_dict(self) -> dict[str, Any]:
        """Return what is decided, as plain lists."""
        return {"chosen": list(self.chosen), "dropped": list(self.dropped)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the decisions."""
        self.chosen, self.dropped = list(state["chosen"]), list(state["dropped"])

    def _columns(self, edge: int) -> tuple[int, ...]:
        if self.dropped[edge]:
            return ()
        column = self.chosen[edge]
        return tuple(range(self.num_operations)) if column is None else (column,)
