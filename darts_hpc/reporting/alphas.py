"""Softmaxed alphas of one cell, (edges, operations): names of the edges and a heat map."""

from collections.abc import Sequence

import numpy as np

from darts_hpc.reporting.cells import state_name
from darts_hpc.space.genotypes import PRIMITIVES, Genotype


def edge_names(num_edges: int) -> list[str]:
    """Name the edges in the order of alpha's rows: "c_{k-2}→0", "c_{k-1}→0", "c_{k-2}→1", ..."""
    names: list[str] = []
    node = 0
    while len(names) < num_edges:
        names += [f"{state_name(state)}→{node}" for state in range(node + 2)]
        node += 1
    return names[:num_edges]


def operation_names(num_operations: int) -> list[str]:
    """Name alpha's columns."""
    return list(PRIMITIVES) if num_operations == len(PRIMITIVES) else [f"operation {i}" for i in range(num_operations)]


def kept_edges(genotype: Genotype, cell: str) -> dict[str, str]:
    """Map the edges that a genotype's cell ("normal" or "reduce") keeps to their operation."""
    edges = getattr(genotype, cell)
    return {f"{state_name(state)}→{position // 2}": operation for position, (operation, state) in enumerate(edges)}


def heat_map(weights: Sequence[Sequence[float]], title: str = "") -> np.ndarray:
    """Draw softmax(alpha), (edges, operations), as a picture: uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.asarray(weights, dtype=float)  # (E, O)
    num_edges, num_operations = table.shape
    figure = Figure(figsize=(1.8 + 0.72 * num_operations, 1.9 + 0.3 * num_edges), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    high = max(
        2 / num_operations, float(np.nanmax(table, initial=0))
    )  # uniform alphas sit in the middle, not at an end
    axes.imshow(table, cmap="viridis", vmin=0, vmax=high, aspect="auto")
    axes.set_xticks(range(num_operations), operation_names(num_operations), rotation=40, ha="right")
    axes.set_yticks(range(num_edges), [_mathtext(name) for name in edge_names(num_edges)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontweight="bold")
    for edge, row in enumerate(table):
        for operation, value in enumerate(row):
            shade = "white" if value < 0.6 * high else "black"
            axes.text(operation, edge, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _mathtext(name: str) -> str:
    start, _, end = name.partition("→")
    return f"${start}$ → {end}"
