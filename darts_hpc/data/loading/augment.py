"""Random crop, flip and cutout of a whole batch at once, on the device; each image's draws come from its own key.

They are drawn for an epoch at once, so that a batch is a few operations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.loading.policies import Policy

ROW, COLUMN, FLIP, CUTOUT_ROW, CUTOUT_COLUMN = range(5)
"""Streams of random numbers of one image."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, in this order: policy, crop, flip, cutout, as in the papers' own code.

    A cutout_length of 0 leaves cutout out.
    """

    crop_padding: int
    flip: bool
    cutout_length: int = 0
    policy: Policy | None = None

    def draw(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Return what happens to images of this size, (5, N) int16, by their keys (N,) int64: a whole epoch's at once.

        Row y shows the image's row y + top, and column x its column sign * x + left; the cutout begins at a row and a
        column. These are the rows of the result: top, left, sign and, with cutout, its first row and column.
        """
        pad, half = self.crop_padding, self.cutout_length // 2
        top, left = (counter_rng.randint(2 * pad + 1, keys, stream) - pad for stream in (ROW, COLUMN))
        sign = torch.ones_like(top)
        if self.flip:
            kept = counter_rng.uniform(keys, FLIP) < 0.5
            sign, left = torch.where(kept, 1, -1), torch.where(kept, left, left + width - 1)
        draws = [top, left, sign]
        if self.cutout_length:
            draws.append(counter_rng.randint(height, keys, CUTOUT_ROW) - half)
            draws.append(counter_rng.randint(width, keys, CUTOUT_COLUMN) - half)
        return torch.stack([numbers.short() for numbers in draws])

    def move(self, images: Tensor, ids: Tensor, draws: Tensor) -> Tensor:
        """Crop and flip the images `ids` (B,) of (N, C, H, W) as RandomCrop(H, padding) and RandomHorizontalFlip do.

        draws (5, B): theirs. What is outside of an image is 0, black.
        """
        height, width = images.shape[-2:]
        top, left, sign = draws[:3, :, None]
        rows = torch.arange(height, device=images.device) + top  # (B, H)
        columns = torch.arange(width, device=images.device) * sign + left  # (B, W)
        nearest_row, nearest_column = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        inside = (rows == nearest_row)[:, :, None] & (columns == nearest_column)[:, None]
        moved = images.permute(0, 2, 3, 1)[ids[:, None, None], nearest_row[:, :, None], nearest_column[:, None]]
        return (moved * inside[..., None]).permute(0, 3, 1, 2)  # channels_last in memory

    def cut_out(self, images: Tensor, draws: Tensor) -> Tensor:
        """Zero a square of cutout_length around a random pixel, clipped at the borders (DeVries and Taylor, 2017)."""
        if not self.cutout_length:
            return images
        height, width = images.shape[-2:]
        rows, columns = (
            self._hidden(side, first) for side, first in zip((height, width), draws[3:, :, None], strict=True)
        )
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    def _hidden(self, side: int, first: Tensor) -> Tensor:
        """Return which positions (B, side) are hidden, from the first one (B, 1) on."""
        distance = torch.arange(side, device=first.device) - first
        return (distance >= 0) & (distance < self.cutout_length // 2 * 2)
