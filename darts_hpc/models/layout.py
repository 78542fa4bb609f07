"""Where the cells of a network sit and how wide they are: the same for the supernet and the derived networks."""

from collections.abc import Iterator
from typing import NamedTuple


class CellPlace(NamedTuple):
    """One cell's channels and kind."""

    prev_prev_channels: int
    prev_channels: int
    channels: int
    reduction: bool
    reduction_prev: bool


def reduction_layers(layers: int) -> tuple[int, int]:
    """Cells that halve the resolution: at one and two thirds of the depth. The auxiliary head follows the second."""
    return layers // 3, 2 * layers // 3


def place_cells(
    layers: int, init_channels: int, stem_channels: tuple[int, int], multipliers: tuple[int, int], reduction_prev: bool
) -> Iterator[CellPlace]:
    """Yield the place of each cell.

    `multipliers` are the numbers of nodes that a normal and a reduction cell concatenate.
    """
    prev_prev, prev = stem_channels
    channels = init_channels
    for index in range(layers):
        reduction = index in reduction_layers(layers)
        channels *= 2 if reduction else 1
        yield CellPlace(prev_prev, prev, channels, reduction, reduction_prev)
        prev_prev, prev = prev, multipliers[reduction] * channels
        reduction_prev = reduction
