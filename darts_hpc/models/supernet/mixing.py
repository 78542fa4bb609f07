"""The weights by which a supernet mixes its candidates: all that it knows of the alphas."""

from dataclasses import dataclass

from torch import Tensor

Columns = tuple[tuple[int, ...], ...] | None
"""The candidates that run on each edge; None for all."""


@dataclass(frozen=True, kw_only=True)
class CellMixing:
    """The weights of one kind of cell.

    edge(x) = edges[e] * (sum over o of operations[e, o] * candidate_o(x) + auxiliary * skip(x)).
    """

    operations: Tensor
    """m (E, O)."""
    edges: Tensor | None = None
    """b (E,); 1 where it is None."""
    auxiliary: Tensor | None = None
    """Share (0-d) of the auxiliary skip, in a supernet that has one."""
    columns: Columns = None
    """The candidates that run; the weights of the others are 0."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """The weights of both kinds of cells."""

    normal: CellMixing
    reduce: CellMixing
    drop_path: Tensor | None = None
    """Chance (0-d) to drop an edge's output for an image, by the images' keys."""

    def of(self, reduction: bool) -> CellMixing:
        """Return the weights of reduction or of normal cells."""
        return self.reduce if reduction else self.normal
