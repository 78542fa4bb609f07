"""What happens to an image: its crop box, flip and colour factors, drawn from (seed, epoch, sample id) alone."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.loading.order import IMAGE

SCALE, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Of torchvision's RandomResizedCrop."""
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}
"""Of the original's ColorJitter. The position of a name is the number of its operation."""

FLIP = 2 * ATTEMPTS + 2
FACTORS = FLIP + 1
RANKS = FACTORS + len(JITTER)
NUM_STREAMS = RANKS + len(JITTER)
"""Streams of random numbers of one image: areas, ratios, top, left, flip, factors, ranks of the colour operations."""


class AugmentParams(NamedTuple):
    """For each image: box (B, 4) int64 top, left, height, width in its pixels; flip (B,) bool; colour factors (B, 4)
    float64 in the order of JITTER; order (B, 4) int64, the operations as they follow one another, or (B, 0) for none.
    """

    boxes: Tensor
    flips: Tensor
    factors: Tensor
    orders: Tensor


def draw(seed: int, epoch: int, ids: Tensor, widths: Tensor, heights: Tensor) -> AugmentParams:
    """Draw for images of the given ids and sizes (B,)."""
    keys = counter_rng.random_bits(seed, epoch, ids, IMAGE)
    uniform = counter_rng.uniform(keys[:, None], torch.arange(NUM_STREAMS))  # (B, NUM_STREAMS)
    strength = torch.tensor(list(JITTER.values()), dtype=torch.float64)
    base = torch.tensor([name != "hue" for name in JITTER])  # hue shifts around 0, the others scale around 1
    return AugmentParams(
        boxes=crop_boxes(uniform[:, :FLIP], widths, heights),
        flips=uniform[:, FLIP] < 0.5,
        factors=base + (2 * uniform[:, FACTORS:RANKS] - 1) * strength,
        orders=uniform[:, RANKS:].argsort(stable=True),
    )


def crop_boxes(uniform: Tensor, widths: Tensor, heights: Tensor) -> Tensor:
    """Return top, left, height, width (B, 4) int64 as torchvision's RandomResizedCrop.get_params does.

    uniform (B, 22): 10 areas, 10 ratios, the top and the left edge. The first of ten boxes that fits is taken, and else
    the largest in the centre that has an allowed ratio.
    """
    areas = (widths * heights)[:, None] * (SCALE[0] + uniform[:, :ATTEMPTS] * (SCALE[1] - SCALE[0]))
    low, high = map(math.log, RATIO)
    ratios = torch.exp(low + uniform[:, ATTEMPTS : 2 * ATTEMPTS] * (high - low))
    box_widths, box_heights = (areas * ratios).sqrt().round().long(), (areas / ratios).sqrt().round().long()
    fits = (box_widths > 0) & (box_widths <= widths[:, None]) & (box_heights > 0) & (box_heights <= heights[:, None])
    first = fits.long().argmax(1, keepdim=True)  # argmax of equal values is the first on the CPU
    width, height = (sides.gather(1, first)[:, 0] for sides in (box_widths, box_heights))
    top = (uniform[:, -2] * (heights - height + 1)).long()
    left = (uniform[:, -1] * (widths - width + 1)).long()

    whole = widths.double() / heights
    centre_width = torch.where(whole > RATIO[1], (heights * RATIO[1]).round().long(), widths)
    centre_height = torch.where(whole < RATIO[0], (widths / RATIO[0]).round().long(), heights)
    centre = ((heights - centre_height) // 2, (widths - centre_width) // 2, centre_height, centre_width)
    found = fits.any(1)
    boxes = zip((top, left, height, width), centre, strict=True)
    return torch.stack([torch.where(found, box, fallback) for box, fallback in boxes], dim=1)


def centre(widths: Tensor, heights: Tensor, resize: int, size: int) -> tuple[Tensor, Tensor]:
    """Return what torchvision's Resize(resize) and CenterCrop(size) do: sizes (B, 2) height, width, and corners (B, 2)
    top, left in the resized image, both int64.
    """
    shorter, longer = torch.minimum(widths, heights), torch.maximum(widths, heights)
    long_side = (resize * longer.double() / shorter).long()  # truncated, as int() does
    short_side = torch.full_like(long_side, resize)
    is_wide = widths > heights
    sizes = torch.stack(
        [torch.where(is_wide, short_side, long_side), torch.where(is_wide, long_side, short_side)], dim=1
    )
    return sizes, ((sizes - size) / 2.0).round().long()  # half to even, as round() does
