"""Random crop, flip and cutout of a whole batch at once, on the device; each image's draws come from its own key."""

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_hpc import counter_rng

ROW, COLUMN, FLIP, CUTOUT_ROW, CUTOUT_COLUMN = range(5)
"""Streams of random numbers of one image."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image. A cutout_length of 0 leaves cutout out."""

    crop_padding: int
    flip: bool
    cutout_length: int = 0

    def move(self, images: Tensor, keys: Tensor) -> Tensor:
        """Crop and flip images (B, C, H, W) as torchvision's RandomCrop(H, padding) and RandomHorizontalFlip do.

        keys (B,) int64: one for each image; what is outside of the image is 0, black.
        """
        batch, _, height, width = images.shape
        pad = self.crop_padding
        top = counter_rng.randint(2 * pad + 1, keys, ROW)[:, None] - pad
        left = counter_rng.randint(2 * pad + 1, keys, COLUMN)[:, None] - pad
        rows = torch.arange(height, device=images.device) + top  # (B, H)
        columns = torch.arange(width, device=images.device).expand(batch, width)
        if self.flip:
            columns = torch.where(counter_rng.uniform(keys, FLIP)[:, None] < 0.5, columns, width - 1 - columns)
        columns = columns + left  # (B, W)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        index = torch.arange(batch, device=images.device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[
            index, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
        ]
        return (moved * inside[..., None]).permute(0, 3, 1, 2)  # channels_last in memory

    def cut_out(self, images: Tensor, keys: Tensor) -> Tensor:
        """Zero a square of cutout_length around a random pixel, clipped at the borders (DeVries and Taylor, 2017)."""
        if not self.cutout_length:
            return images
        height, width = images.shape[-2:]
        rows = _hidden(height, counter_rng.randint(height, keys, CUTOUT_ROW), self.cutout_length)
        columns = _hidden(width, counter_rng.randint(width, keys, CUTOUT_COLUMN), self.cutout_length)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _hidden(side: int, centre: Tensor, length: int) -> Tensor:
    positions = torch.arange(side, device=centre.device)
    start = centre[:, None] - length // 2
    return (positions >= start) & (positions < centre[:, None] + length // 2)  # (B, side)
