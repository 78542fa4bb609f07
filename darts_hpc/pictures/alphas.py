"""Softmaxed alphas of one cell, (edges, operations): names of the edges and a heat map."""

from collections.abc import Sequence

import numpy as np

from darts_hpc.pictures.cells import state_name
from darts_hpc.space.genotypes import PRIMITIVES, Genotype

LEFT, TOP, WIDTH, HEIGHT = 92, 36, 92, 28
"""Pixels of the heat map: margins for the edges' names and the title, and one weight."""
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Of matplotlib, at five places."""


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
    from PIL import Image, ImageDraw, ImageFont

    table = np.asarray(weights, dtype=float)  # (E, O)
    num_edges, num_operations = table.shape
    # uniform alphas sit in the middle of the colours, not at an end
    high = max(2 / num_operations, float(np.nanmax(table, initial=0)))
    image = Image.new("RGB", (LEFT + WIDTH * num_operations + 8, TOP + HEIGHT * num_edges + 28), "white")
    draw = ImageDraw.Draw(image)
    font, bold = ImageFont.load_default(13), ImageFont.load_default(16)
    draw.text((LEFT, TOP / 2), title, fill="black", font=bold, anchor="lm")
    for edge, (name, row) in enumerate(zip(edge_names(num_edges), table, strict=True)):
        y = TOP + HEIGHT * edge
        start, _, end = name.replace("{", "").replace("}", "").partition("→")
        draw.text((LEFT - 8, y + HEIGHT / 2), f"{start} to {end}", fill="black", font=font, anchor="rm")
        for operation, value in enumerate(row):
            x = LEFT + WIDTH * operation
            draw.rectangle((x, y, x + WIDTH - 1, y + HEIGHT - 1), fill=_color(value / high))
            shade = "white" if value < 0.6 * high else "black"
            draw.text((x + WIDTH / 2, y + HEIGHT / 2), f"{value:.2f}", fill=shade, font=font, anchor="mm")
    for operation, name in enumerate(operation_names(num_operations)):
        place = (LEFT + WIDTH * (operation + 0.5), TOP + HEIGHT * num_edges + 14)
        draw.text(place, name, fill="black", font=font, anchor="mm")
    return np.asarray(image).copy()


def _color(share: float) -> tuple[int, int, int]:
    """Return the color of a share in [0, 1]."""
    red, green, blue = (
        round(float(np.interp(share, np.linspace(0, 1, len(VIRIDIS)), channel)))
        for channel in zip(*VIRIDIS, strict=True)
    )
    return red, green, blue
