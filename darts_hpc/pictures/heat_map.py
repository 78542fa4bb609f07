"""A cell's softmaxed alphas as a table, the fuller a field the larger its weight: as SVG for a page, or as pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np

LEFT, TOP, WIDTH, HEIGHT = 74, 84, 40, 21
"""Of the table: margins for the edges' and the operations' names, and one field."""
RIGHT, BOTTOM, GAP, RADIUS = 46, 4, 2, 3
FULL = 0.7
"""Share from which a field is so full that its number is written in white."""
ACCENT = (29, 95, 214)
"""Color of a full field in pixels; in a page it is the theme's."""
SCALE = 2
"""Pixels per unit of the layout."""


class Field(NamedTuple):
    """One weight: where it stands, how full it is (0 to 1), and its number."""

    x: int
    y: int
    share: float
    text: str


@dataclass(frozen=True)
class HeatMap:
    """Weights (edges, operations) with their names. `high` is the weight of a full field."""

    title: str
    weights: Sequence[Sequence[float]]
    edges: Sequence[str]
    operations: Sequence[str]
    high: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        return LEFT + WIDTH * len(self.operations) + RIGHT, TOP + HEIGHT * len(self.edges) + BOTTOM

    def fields(self) -> Iterator[Field]:
        """Yield every weight, row by row; one that is not finite is empty."""
        for row, weights in enumerate(self.weights):
            for column, weight in enumerate(weights):
                share = min(1.0, max(0.0, weight / self.high)) if math.isfinite(weight) else 0.0
                yield Field(LEFT + WIDTH * column, TOP + HEIGHT * row, share, f"{weight:.2f}")


def to_svg(table: HeatMap) -> str:
    """Draw it as SVG, in the colors of page.css."""
    width, height = table.size
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(table.title)}">']
    for column, name in enumerate(table.operations):
        x = LEFT + WIDTH * (column + 0.4)
        parts.append(f'<text transform="translate({x:.0f} {TOP - 8}) rotate(-42)">{escape(name)}</text>')
    for row, name in enumerate(table.edges):
        parts.append(f'<text x="{LEFT - 8}" y="{TOP + HEIGHT * row + 14}" text-anchor="end">{escape(name)}</text>')
    for x, y, share, text in table.fields():
        box = f'x="{x}" y="{y}" width="{WIDTH - GAP}" height="{HEIGHT - GAP}" rx="{RADIUS}"'
        parts.append(f'<rect class="heat" {box} fill-opacity="{share:.2f}"/>')
        place = f'class="{"on" if share > FULL else "off"}" x="{x + WIDTH / 2 - 1:.0f}" y="{y + 14}"'
        parts.append(f'<text {place} text-anchor="middle">{text}</text>')
    return "".join(parts) + "</svg>"


def to_pixels(table: HeatMap) -> np.ndarray:
    """Draw it as a picture, uint8 (H, W, 3), on white."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = table.size
    image = Image.new("RGB", (SCALE * width, SCALE * height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11 * SCALE)
    draw.text((8, 8), table.title, fill="black", font=font)
    for column, name in enumerate(table.operations):
        label = Image.new("L", (SCALE * 110, SCALE * 14))
        ImageDraw.Draw(label).text((0, 0), name, fill=255, font=font)
        turned = label.rotate(42, expand=True)
        x = SCALE * (LEFT + WIDTH * (column + 0.4))
        image.paste("black", (round(x), SCALE * TOP - turned.height), turned)
    for row, name in enumerate(table.edges):
        place = SCALE * (LEFT - 8), SCALE * (TOP + HEIGHT * (row + 0.5))
        ascii_name = name.translate({ord("{"): None, ord("}"): None}).replace("→", " to ")  # what the font has
        draw.text(place, ascii_name, fill="black", font=font, anchor="rm")
    for x, y, share, text in table.fields():
        color = tuple(round(255 + share * (channel - 255)) for channel in ACCENT)
        corners = [SCALE * value for value in (x, y, x + WIDTH - GAP, y + HEIGHT - GAP)]
        draw.rounded_rectangle(corners, SCALE * RADIUS, fill=color)
        middle = SCALE * (x + (WIDTH - GAP) / 2), SCALE * (y + (HEIGHT - GAP) / 2)
        draw.text(middle, text, fill="white" if share > FULL else "black", font=font, anchor="mm")
    return np.asarray(image).copy()
