"""Figures by matplotlib: what they have in common, and how they become SVG, PDF or pixels.

It is imported only where a figure is drawn: that takes half a second.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_hpc.pictures.theme import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 8
"""Size of words; figures are in inches."""
SVG_WORDS = {"svg.fonttype": "none", "svg.hashsalt": "darts_hpc", "font.sans-serif": ["DejaVu Sans", "Helvetica"]}
"""Words stay words, and a figure drawn again has the same bytes."""
PDF_WORDS = {"pdf.fonttype": 42}
"""Letters that papers accept: no Type 3."""
Box = tuple[float, float, float, float]


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure without a background. Unlike pyplot's, it may be drawn in any thread."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="none")


def add_axes(figure: "Figure", box: Box, x_label: str = "", grid: str = "y") -> "Axes":
    """Add axes in a box: left, bottom, right and top margin in inches. grid: "x", "y" or "both"."""
    width, height = (float(size) for size in figure.get_size_inches())
    left, bottom, right, top = box
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height), facecolor="none"
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelsize=POINTS, labelcolor=COLORS["muted"])
    axes.grid(axis=grid, color=COLORS["rule"], linewidth=0.8)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, fontsize=POINTS, color=COLORS["muted"])
    return axes


def add_legend(figure: "Figure", entries: Sequence[tuple[str, dict[str, Any]]], columns: int, y: float = 1.0) -> None:
    """Add a legend at the top, one entry per label and style of a line."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], label=label, **{"linewidth": 1.8, **style}) for label, style in entries]
    figure.legend(
        handles=lines, loc="upper left", bbox_to_anchor=(0, y), ncols=columns, frameon=False, fontsize=POINTS,
        labelcolor=COLORS["ink"], handlelength=1.8, columnspacing=1.4, borderaxespad=0.2, labelspacing=0.3,
    )  # fmt: skip


def to_svg(figure: "Figure") -> str:
    """Return a figure as SVG."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context(SVG_WORDS):  # pyright: ignore[reportArgumentType]
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def to_pdf(figure: "Figure") -> bytes:
    """Return a figure as PDF."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(PDF_WORDS):  # pyright: ignore[reportArgumentType]
        figure.savefig(file, format="pdf", metadata={"CreationDate": None})
    return file.getvalue()


def to_pixels(figure: "Figure", dots_per_inch: int = 120) -> np.ndarray:
    """Return a figure on white, uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dots_per_inch)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
