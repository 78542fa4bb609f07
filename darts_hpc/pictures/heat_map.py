"""A cell's weights of operations as a table, the fuller a field the larger its weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darts_hpc.pictures.figures import POINTS, new_figure
from darts_hpc.pictures.theme import COLORS
from darts_hpc.pictures.typeset import mathtext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL = 0.6
"""Share from which a field is so full that its number is written in white."""


@dataclass(frozen=True)
class HeatMap:
    """Weights (edges, operations) with their names, those of the operations per edge. `high` fills a field."""

    title: str
    weights: Sequence[Sequence[float]]
    edges: Sequence[str]
    operations: Sequence[Sequence[str]]
    high: float

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of the columns; None where each edge has operations of its own."""
        return self.operations[0] if len({tuple(names) for names in self.operations}) == 1 else None

    def share(self, weight: float) -> float:
        """Return how full a field is, 0 to 1; one that is not finite is empty."""
        return min(1.0, max(0.0, weight / self.high)) if math.isfinite(weight) else 0.0

    def text(self, row: int, column: int) -> str:
        """Return what stands in a field: its number, and its operation where the columns have no names."""
        number = f"{self.weights[row][column]:.2f}"
        return number if self.columns else f"{self.operations[row][column]} {number}"


def draw(table: HeatMap) -> "Figure":
    """Draw it as a figure, for files and TensorBoard."""
    from matplotlib.patches import Rectangle

    columns = len(table.weights[0])
    cell_width, cell_height, left, top = 0.46 if table.columns else 1.3, 0.24, 0.85, 1.15 if table.columns else 0.4
    width, height = left + cell_width * columns + 0.5, top + cell_height * len(table.edges) + 0.08
    figure = new_figure(max(width, 3.4), height)
    width = float(figure.get_size_inches()[0])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.08, 0.2, table.title, fontsize=POINTS + 2, fontweight="bold", color=COLORS["ink"])
    for column, name in enumerate(table.columns or ()):
        x = left + cell_width * (column + 0.4)
        axes.text(x, top - 0.06, name, fontsize=POINTS, rotation=42, rotation_mode="anchor", color=COLORS["ink"])
    for row, (name, weights) in enumerate(zip(table.edges, table.weights, strict=True)):
        y = top + cell_height * row
        style = {"fontsize": POINTS, "va": "center_baseline"}
        axes.text(left - 0.08, y + cell_height / 2, mathtext(name), ha="right", color=COLORS["muted"], **style)
        for column, weight in enumerate(weights):
            x, share = left + cell_width * column, table.share(weight)
            axes.add_patch(Rectangle((x, y), cell_width - 0.02, cell_height - 0.02, fc=COLORS["accent"], alpha=share))
            color = "white" if share > FULL else COLORS["ink"]
            axes.text(
                x + cell_width / 2, y + cell_height / 2, table.text(row, column), ha="center", color=color, **style
            )
    return figure
