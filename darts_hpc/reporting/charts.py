"""Charts as SVG inside a page. Colors are CSS variables of page.css, so that they suit the reader's theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from darts_hpc.pictures.cells import operation_color
from darts_hpc.pictures.heat_map import HeatMap, to_svg

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 34
DASHES = {"none": "1 3", "avg_pool_3x3": "5 3", "sep_conv_5x5": "5 3", "dil_conv_5x5": "5 3"}


@dataclass(frozen=True)
class Curve:
    """A line of a chart. Curves of one label share a color and a line of the legend."""

    label: str
    points: list[tuple[float, float]]
    color: str = "accent"
    """A CSS variable of page.css, without its dashes."""
    hint: str = ""
    """What a reader sees when the pointer rests on it."""


def line_chart(title: str, curves: Sequence[Curve], x_label: str = "epoch") -> str:
    """Draw curves over epochs with axes and a legend; points that are not finite are left out, and said to be.

    Nothing where there is no curve.
    """
    drawn = [(curve, [p for p in curve.points if math.isfinite(p[1])]) for curve in curves]
    num_lost = sum(len(curve.points) - len(points) for curve, points in drawn)
    everything = [point for _, points in drawn for point in points]
    if not everything:
        return f"<figure>{_caption(title, _legend(curves), num_lost)}</figure>" if num_lost else ""
    xs, ys = zip(*everything, strict=True)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    ticks = _ticks(min(ys), max(ys), whole=all(isinstance(y, int) for y in ys))
    y_low, y_high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        y = place(x_low, tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _whole_ticks(x_low, x_high):
        x = place(tick, y_low)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for curve, points in drawn:
        placed = [place(*point) for point in points]
        hint = f"<title>{escape(curve.hint or curve.label)}</title>"
        parts.append(f'<g style="--line:var(--{curve.color})">{hint}{_polyline(placed)}</g>')
    return f"<figure>{_caption(title, _legend(curves), num_lost)}{''.join(parts)}</svg></figure>"


def points_chart(title: str, rows: Sequence[tuple[str, Sequence[float]]], unit: str = "%") -> str:
    """Draw every value of each row as a point on a common scale, with the row's mean as a stroke."""
    everything = [value for _, values in rows for value in values if math.isfinite(value)]
    num_lost = sum(len(values) for _, values in rows) - len(everything)
    if not everything:
        return f'<figure class="wide points">{_caption(title, "", num_lost)}</figure>' if num_lost else ""
    ticks = _ticks(min(everything), max(everything), whole=False)
    low, high = ticks[0], ticks[-1]
    width, step, left, right = 640, 34, 16, 16
    height = step * len(rows) + 26

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        x = across(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 0V{height - 20}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{tick:g}</text>')
    for index, (label, values) in enumerate(rows):
        y = step * index + 24
        known = [value for value in values if math.isfinite(value)]
        parts.append(f'<text class="off" x="{left}" y="{y - 10}">{escape(label)}</text>')
        if known:
            x = across(sum(known) / len(known))
            parts.append(f'<path class="line" style="--line:var(--second)" d="M{x:.1f} {y - 7}V{y + 7}"/>')
        for value in known:
            hint = f"<title>{escape(label)}: {value:.2f} {unit}</title>"
            parts.append(
                f'<circle class="dot" style="--line:var(--accent)" fill-opacity=".65" cx="{across(value):.1f}" '
                f'cy="{y}" r="4.5">{hint}</circle>'
            )
    keys = (
        '<span class="key" style="--line:var(--accent)">one run</span>'
        '<span class="key" style="--line:var(--second)">mean</span>'
    )
    return f'<figure class="wide points">{_caption(title, keys, num_lost)}{"".join(parts)}</svg></figure>'


def scatter_chart(title: str, x_label: str, points: Sequence[tuple[float, float, str, str]]) -> str:
    """Draw points (x, y, legend, hint); those of one legend share a color."""
    num_points = len(points)
    points = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    num_lost = num_points - len(points)
    if not points:
        return f"<figure>{_caption(title, '', num_lost)}</figure>" if num_lost else ""
    x_ticks = _ticks(min(p[0] for p in points), max(p[0] for p in points), whole=False)
    y_ticks = _ticks(min(p[1] for p in points), max(p[1] for p in points), whole=False)
    colors = dict(zip(dict.fromkeys(p[2] for p in points), ("accent", "third", "second", "op-dil"), strict=False))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        y = place(x_ticks[0], tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x = place(tick, y_ticks[0])[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for x, y, legend, hint in points:
        cx, cy = place(x, y)
        style = f'style="--line:var(--{colors.get(legend, "accent")})" fill-opacity=".75"'
        parts.append(
            f'<circle class="dot" {style} cx="{cx:.1f}" cy="{cy:.1f}" r="5"><title>{escape(hint)}</title></circle>'
        )
    legend = _legend([Curve(name, [], color) for name, color in colors.items()])
    return f"<figure>{_caption(title, legend, num_lost)}{''.join(parts)}</svg></figure>"


def edge_chart(
    edge: str,
    epochs: Sequence[int],
    weights: Sequence[Sequence[float]],
    operations: Sequence[str],
    kept: str | None,
    high: float,
) -> str:
    """Draw how the operations of one edge (epochs, operations) rose and fell; the strongest but `none` stands out."""
    width, height = 170, 84
    last = dict(zip(operations, weights[-1], strict=True))
    strongest = max((name for name in operations if name != "none"), key=last.__getitem__)
    span = max(epochs[-1] - epochs[0], 1)
    lines = []
    for column, operation in enumerate(operations):
        points = [
            (4 + (epoch - epochs[0]) / span * (width - 8), height - 3 - row[column] / high * (height - 8))
            for epoch, row in zip(epochs, weights, strict=True)
        ]
        role = "strong" if operation == strongest else "weak"
        style = f"--line:var(--{operation_color(operation)});stroke-dasharray:{DASHES.get(operation, 'none')}"
        hint = f"<title>{escape(operation)} {last[operation]:.3f}</title>"
        lines.append((role, f'<g class="{role}" style="{style}">{hint}{_polyline(points)}</g>'))
    ordered = "".join(line for _, line in sorted(lines, key=lambda item: item[0] == "strong"))
    mark = f'<span class="kept" title="in the final cell: {escape(kept)}">kept</span>' if kept else ""
    return (
        f'<figure class="edge{" is-kept" if kept else ""}"><figcaption><b>{escape(edge)}</b>{mark}'
        f'<span class="op" style="color:var(--{operation_color(strongest)})">'
        f"{escape(strongest)} {last[strongest]:.2f}</span>"
        f'</figcaption><svg viewBox="0 0 {width} {height}" role="img" aria-label="operations of edge {escape(edge)}">'
        f'<path class="grid" d="M4 {height - 3}H{width - 4}"/>{ordered}</svg></figure>'
    )


def heat_map(table: HeatMap) -> str:
    """Draw a table of weights as a figure."""
    return f'<figure class="wide"><figcaption><b>{escape(table.title)}</b></figcaption>{to_svg(table)}</figure>'


def _caption(title: str, legend: str, num_lost: int) -> str:
    lost = f'<span class="note">{num_lost} values were not finite</span>' if num_lost else ""
    return f"<figcaption><b>{escape(title)}</b>{legend}{lost}</figcaption>"


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        return f'<circle class="dot" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3.5"/>'
    return f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _legend(curves: Sequence[Curve]) -> str:
    labels = {curve.label: curve.color for curve in curves}
    return "".join(
        f'<span class="key" style="--line:var(--{color})">{escape(name)}</span>' for name, color in labels.items()
    )


def _ticks(low: float, high: float, whole: bool) -> list[float]:
    """Return about five round numbers that enclose low and high."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = (low - 1, high + 1) if whole else (low - 0.5, high + 0.5)
    rough = (high - low) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    step = max(step, 1) if whole else step
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(step * index, 10) for index in range(first, last + 1)]


def _whole_ticks(low: float, high: float) -> list[int]:
    step = max(1, math.ceil((high - low) / 6))
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 10**9) if s >= step)
    first = math.ceil(low)
    return sorted({first, *(tick for tick in range(0, math.floor(high) + 1, step) if tick >= first + step / 2)})
