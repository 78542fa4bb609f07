"""Charts of a report, by matplotlib: one figure is part of the page, in the colors of its theme, and a file for papers.

Points that are not finite can't be drawn; a chart's note counts them and says where they were.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from darts_hpc.pictures.figures import POINTS, add_axes, add_legend, new_figure, to_pdf, to_svg
from darts_hpc.pictures.heat_map import HeatMap
from darts_hpc.pictures.theme import COLORS, DASHED, for_page, operation_color
from darts_hpc.pictures.typeset import mathtext, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.3, 2.7
"""Inches."""
MARGINS = (0.52, 0.42, 0.1, 0.34)
"""Left, bottom, right and top."""
ORDER = ("accent", "third", "second", "op-dil", "op-other", "cell-output-line", "cell-input-line", "ink")
"""Colors of what a chart tells apart, one after the other; for more, curves are dashed and points are squares."""
LETTER, LINE = 0.062, 0.38
"""Of a legend or a label: inches of a letter on average, and of the line before it."""
SHORT = 16
"""Letters of a label that has room beside its row; others stand above it."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart. Curves of one label share a color and an entry of the legend."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str = "accent"
    """A name of pictures.theme.PALETTE."""
    hint: str = ""
    """What a reader sees when the pointer rests on it."""
    dashed: bool = False
    dots: bool = False
    """Whether its points are marked."""


@dataclass(frozen=True)
class Chart:
    """A figure with its words. figure: None where nothing could be drawn. hints: id of a group -> what it shows."""

    title: str
    figure: "Figure | None"
    note: str = ""
    hints: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def svg(self) -> str:
        """The figure as a file."""
        return "" if self.figure is None else to_svg(self.figure)

    @property
    def pdf(self) -> bytes:
        """The figure as a file for LaTeX."""
        return b"" if self.figure is None else to_pdf(self.figure)

    @property
    def in_page(self) -> str:
        """The figure as part of a page."""
        return for_page(self.svg, plain(self.title), self.hints) if self.svg else ""


def line_chart(title: str, curves: Sequence[Curve], x_label: str = "epoch", whole: bool = True) -> Chart | None:
    """Draw curves over epochs, or what else are whole numbers or not; None where there is no curve."""
    if not curves:
        return None
    lost = [(curve, [x for x, y in curve.points if not math.isfinite(y)]) for curve in curves]
    note = _note(sum(len(epochs) for _, epochs in lost), x_label, (x for _, epochs in lost for x in epochs))
    if not any(math.isfinite(y) for curve in curves for _, y in curve.points):
        return Chart(title, None, note)
    styles = {c.label: {"color": COLORS[c.color], "linestyle": "--" if c.dashed else "-"} for c in curves}
    figure, axes = _with_legend(styles, x_label)
    if whole:
        _whole_numbers(axes.xaxis)
    if all(isinstance(y, int) for curve in curves for _, y in curve.points):
        _whole_numbers(axes.yaxis)
    hints = {}
    for number, curve in enumerate(curves):
        known = [point for point in curve.points if math.isfinite(point[1])]
        if not known:
            continue
        xs, ys = zip(*curve.points, strict=True)  # a gap where one is not finite
        alone = [x for i, (x, y) in enumerate(curve.points) if math.isfinite(y) and _is_alone(ys, i)]
        style: dict[str, Any] = styles[curve.label] | {"solid_joinstyle": "round", "clip_on": False}
        axes.plot(xs, ys, linewidth=1.6, gid=f"curve-{number}", **style)
        if alone or curve.dots:
            values, alone = dict(curve.points), [x for x, _ in known] if curve.dots else alone
            axes.plot(alone, [values[x] for x in alone], "o", markersize=4, gid=f"dots-{number}", **style)
        hints |= dict.fromkeys((f"curve-{number}", f"dots-{number}"), curve.hint or curve.label)
    return Chart(title, figure, note, hints)


def points_chart(
    title: str, rows: Sequence[tuple[str, Sequence[float]]], unit: str = "%", point: str = "one run", band: str = ""
) -> Chart | None:
    """Draw every value of each row as a point on a common scale, with the row's mean as a stroke.

    point: what one is. band: the row whose range is shaded over all of them.
    """
    values = [value for _, row in rows for value in row]
    if not values:
        return None
    note = _note(sum(not math.isfinite(value) for value in values))
    if not any(map(math.isfinite, values)):
        return Chart(title, None, note)
    widest = max(len(label) for label, _ in rows)
    beside = widest <= SHORT
    step, left = (0.27, LETTER * widest + 0.1) if beside else (0.38, 0.15)
    figure = new_figure(WIDTH if beside else 5.6, step * len(rows) + 0.75)
    axes = add_axes(figure, (left, 0.42, 0.15, 0.3), grid="x")
    axes.set(ylim=(len(rows) - 0.35, -0.75), yticks=[])
    hints = {}
    shaded = [value for value in dict(rows).get(band, []) if math.isfinite(value)]
    if shaded:
        axes.axvspan(min(shaded), max(shaded), color=COLORS["rule"], alpha=0.6, linewidth=0)
    for y, (label, row) in enumerate(rows):
        place = {"x": -0.02, "y": y, "ha": "right", "va": "center"} if beside else {"x": 0, "y": y - 0.42}
        axes.text(
            s=mathtext(label), transform=axes.get_yaxis_transform(), fontsize=POINTS, color=COLORS["ink"], **place
        )
        known = [value for value in row if math.isfinite(value)]
        if known:
            mean = sum(known) / len(known)
            axes.plot([mean, mean], [y - 0.22, y + 0.22], color=COLORS["second"], linewidth=2, clip_on=False)
        for number, value in enumerate(known):
            name = f"point-{y}-{number}"
            hints[name] = f"{label}: {value:.2f} {unit}"
            axes.plot(value, y, "o", color=COLORS["accent"], alpha=0.65, markersize=6, markeredgewidth=0, gid=name,
                      clip_on=False)  # fmt: skip
    dot = {"marker": "o", "linewidth": 0, "color": COLORS["accent"], "alpha": 0.65, "markeredgewidth": 0}
    range_of = [(f"range of {band}", {"color": COLORS["rule"], "linewidth": 6})] if shaded else []
    add_legend(figure, [(point, dot), ("mean", {"color": COLORS["second"]}), *range_of], columns=3)
    return Chart(title, figure, note, hints)


def scatter_chart(
    title: str,
    x_label: str,
    points: Sequence[tuple[float, float, str, str]],
    colors: Mapping[str, str] | None = None,
) -> Chart | None:
    """Draw points (x, y, legend, hint); those of one legend share a color.

    colors: legend -> name of pictures.theme.PALETTE.
    """
    if not points:
        return None
    known = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    note = _note(len(points) - len(known))
    if not known:
        return Chart(title, None, note)
    legends = list(dict.fromkeys(legend for _, _, legend, _ in known))
    names = colors or {legend: ORDER[number % len(ORDER)] for number, legend in enumerate(legends)}
    styles: dict[str, dict[str, Any]] = {}
    dot = {"linewidth": 0, "alpha": 0.75, "markersize": 6, "markeredgewidth": 0}
    taken: set[str] = set()
    for legend in legends:
        color = COLORS[names[legend]]
        styles[legend] = {**dot, "color": color, "marker": "s" if color in taken else "o"}
        taken.add(color)
    figure, axes = _with_legend(styles, x_label, "both")
    if all(isinstance(x, int) for x, _, _, _ in known):
        _whole_numbers(axes.xaxis)
    hints = {}
    for number, (x, y, legend, hint) in enumerate(known):
        axes.plot(x, y, gid=f"point-{number}", clip_on=False, **styles[legend])
        hints[f"point-{number}"] = hint
    axes.margins(0.06)
    return Chart(title, figure, note, hints)


@dataclass(frozen=True)
class Evolution:
    """How the weights of one cell's edges changed: weights are (epochs, edges, operations), finite."""

    epochs: Sequence[int]
    weights: Sequence[Sequence[Sequence[float]]]
    edges: Sequence[str]
    operations: Sequence[Sequence[str]]
    kept: dict[str, str]
    """Edge that the final cell keeps -> its operation there."""

    @functools.cached_property
    def high(self) -> float:
        """The largest weight of any edge and epoch, so that edges can be compared; above 0."""
        return max(1e-12, *(weight for table in self.weights for row in table for weight in row))

    def last(self, edge: int) -> dict[str, float]:
        """Return operation -> weight of an edge in the last epoch."""
        return dict(zip(self.operations[edge], self.weights[-1][edge], strict=True))

    def strongest(self, edge: int) -> str | None:
        """Return the operation of most weight in the last epoch, `none` aside; None for an edge that is dropped."""
        last = self.last(edge)
        return max((name for name in last if name != "none"), key=last.__getitem__) if any(last.values()) else None

    def heat_map(self, index: int) -> HeatMap:
        """Return one epoch's weights as a table; the first and the last epoch have the same scale."""
        high = max(weight for table in (self.weights[0], self.weights[-1]) for row in table for weight in row)
        return HeatMap(f"Epoch {self.epochs[index]}", self.weights[index], self.edges, self.operations, high)


def edge_chart(evolution: Evolution, edge: int) -> Chart:
    """Draw how the operations of one edge rose and fell, without axes; the strongest stands out."""
    from matplotlib.lines import Line2D

    figure = new_figure(1.9, 0.95)  # a page has dozens of these, and axes are slow
    figure.add_artist(Line2D([0.02, 0.98], [0.04, 0.04], color=COLORS["rule"], linewidth=1))
    first, span = evolution.epochs[0], max(1, evolution.epochs[-1] - evolution.epochs[0])
    xs = [0.02 + 0.96 * (epoch - first) / span for epoch in evolution.epochs]
    hints = {}
    for column, (operation, style) in enumerate(_edge_styles(evolution, edge)):
        ys = [0.04 + 0.92 * table[edge][column] / evolution.high for table in evolution.weights]
        name = f"operation-{column}"
        figure.add_artist(Line2D(xs, ys, gid=name, **style))
        hints[name] = f"{operation} {evolution.last(edge)[operation]:.3f}"
    return Chart(f"operations of edge {evolution.edges[edge]}", figure, hints=hints)


def evolution_figure(title: str, evolution: Evolution) -> Chart:
    """Draw all edges of a cell in one figure, for a paper."""
    columns = 4
    rows = math.ceil(len(evolution.edges) / columns)
    names = list(dict.fromkeys(name for edge in evolution.operations for name in edge))
    legend_rows = math.ceil(len(names) / columns)
    top = 0.2 * legend_rows + 0.1
    figure = new_figure(6.8, 1.1 * rows + top + 0.2)
    width, height = (float(size) for size in figure.get_size_inches())
    cell_width, cell_height = width / columns, (height - top - 0.2) / rows
    for edge, name in enumerate(evolution.edges):
        row, column = divmod(edge, columns)
        left, up = column * cell_width + 0.35, top + row * cell_height + 0.22
        box = (left, height - up - cell_height + 0.32, width - (column + 1) * cell_width + 0.08, up)
        axes = add_axes(figure, box)
        axes.tick_params(labelsize=POINTS - 2)
        _whole_numbers(axes.xaxis)
        weight = "bold" if name in evolution.kept else "normal"
        axes.set_title(mathtext(name), fontsize=POINTS, color=COLORS["ink"], fontweight=weight, loc="left", pad=2)
        axes.set_ylim(0, evolution.high * 1.03)
        for number, (_, style) in enumerate(_edge_styles(evolution, edge)):
            axes.plot(evolution.epochs, [table[edge][number] for table in evolution.weights], clip_on=False, **style)
    add_legend(figure, [(name, _style(name)) for name in names], columns)
    return Chart(title, figure)


def _edge_styles(evolution: Evolution, edge: int) -> list[tuple[str, dict]]:
    """Return how the curve of each operation of an edge looks; the strongest one stands out."""
    strongest, styles = evolution.strongest(edge), []
    for operation in evolution.operations[edge]:
        stands_out = operation == strongest
        style = _style(operation) | {"linewidth": 2 if stands_out else 1, "alpha": 1.0 if stands_out else 0.55}
        style["zorder"] = 3 if stands_out else 2
        if len(evolution.epochs) == 1:
            style |= {"marker": "o", "markersize": 4, "markeredgewidth": 0}
        styles.append((operation, style))
    return styles


def _style(operation: str) -> dict:
    return {"color": COLORS[operation_color(operation)], "linestyle": (0, (3, 1.6)) if operation in DASHED else "-"}


def _with_legend(styles: Mapping[str, dict], x_label: str, grid: str = "y") -> tuple["Figure", "Axes"]:
    """Return a figure with a legend, in as many lines as its labels need, and axes below it."""
    columns = min(len(styles), max(1, int(WIDTH / (LETTER * max(map(len, styles)) + LINE))))
    rows = math.ceil(len(styles) / columns)
    extra = 0.16 * (rows - 1)
    left, bottom, right, top = MARGINS
    figure = new_figure(WIDTH, HEIGHT + extra)
    labels = list(styles)
    by_column = [label for column in range(columns) for label in labels[column::columns]]  # as matplotlib fills it
    add_legend(figure, [(label, styles[label]) for label in by_column], columns)
    return figure, add_axes(figure, (left, bottom, right, top + extra), x_label, grid)


def _note(number: int, x_label: str = "", where: Iterable[float] = ()) -> str:
    """Say how many values could not be drawn, and where they were."""
    if not number:
        return ""
    words = "1 value was not finite" if number == 1 else f"{number} values were not finite"
    places = sorted({int(x) for x in where})
    return words + (f": {x_label} {_ranges(places)}" if places else "")


def _ranges(numbers: Sequence[int]) -> str:
    """Spell ascending numbers as 1-3, 7; at most four pieces."""
    starts = [numbers[0], *(after for before, after in pairwise(numbers) if after > before + 1)]
    ends = [*(before for before, after in pairwise(numbers) if after > before + 1), numbers[-1]]
    spelled = [f"{low}" if low == high else f"{low}-{high}" for low, high in zip(starts, ends, strict=True)]
    return ", ".join(spelled[:4]) + (", ..." if len(spelled) > 4 else "")


def _is_alone(ys: Sequence[float], index: int) -> bool:
    """Whether a point has no finite neighbour, so that no line shows it."""
    neighbours = [*ys[max(0, index - 1) : index], *ys[index + 1 : index + 2]]
    return not any(math.isfinite(y) for y in neighbours)


def _whole_numbers(axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
