"""Batches as a pure function of (seed, epoch, step), from images that live on the device as one tensor."""

from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.augment import Augmentation
from darts_hpc.data.image_set import DataSet, ImageSet

ORDER, IMAGE, DROP_PATH = range(3)
"""Streams of random numbers of one (seed, epoch, sample id)."""


class Batch(NamedTuple):
    """images (B, 3, H, W) float32, normalised, channels_last; labels (B,) int64; keys (B,) int64, random."""

    images: Tensor
    labels: Tensor
    keys: Tensor


class BatchSource:
    """Random access to the batches of any epoch.

    The order of an epoch is a permutation drawn from (seed, epoch, sample id); a step takes the next global batch of
    `world_size` consecutive slices of it, one a rank. So the position in the data is (epoch, step), and the samples and
    their augmentation do not depend on the number of ranks.

    Args:
        part: training or test images.
        sample_ids: which of them, and in which order when not shuffled; all by default.
        batch_size: images a step on this rank.
        augmentation: None leaves the images as they are.
        shuffle: draw a new order each epoch.
        drop_last: leave out the images that do not fill a global batch, so that every rank has equal batches. Without
            it every image comes exactly once, and a rank's last batch may be smaller or empty.

    Raises:
        ValueError: drop_last leaves no batch at all.
    """

    def __init__(
        self,
        data: DataSet,
        part: ImageSet,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        sample_ids: Tensor | None = None,
        augmentation: Augmentation | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        ids = torch.arange(len(part)) if sample_ids is None else sample_ids
        self.device = device
        self.images = part.images.contiguous(memory_format=torch.channels_last).to(device)
        self.labels = part.labels.to(device)
        self.sample_ids = ids.to(device)
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (data.mean, data.std))
        self.batch_size, self.seed, self.augmentation, self.shuffle = batch_size, seed, augmentation, shuffle
        self.rank, self.global_batch_size = rank, batch_size * world_size
        self.num_samples = len(ids)
        full, rest = divmod(self.num_samples, self.global_batch_size)
        self.steps_per_epoch = full + bool(rest and not drop_last)
        if not self.steps_per_epoch:
            raise ValueError(
                f"--batch_size {batch_size} on {world_size} processes takes {self.global_batch_size} images a step; "
                f"only {self.num_samples} are there; lower --batch_size"
            )
        self._order: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> Batch:
        """Return this rank's batch of a step."""
        start = step * self.global_batch_size + self.rank * self.batch_size
        ids = self._epoch_order(epoch)[start : start + self.batch_size]
        images = self.images[ids]
        if self.augmentation is not None:
            image_keys = counter_rng.random_bits(self.seed, epoch, ids, IMAGE)
            images = self.augmentation.move(images, image_keys)
            images = self.augmentation.cut_out(self._normalise(images), image_keys)
        else:
            images = self._normalise(images)
        keys = counter_rng.random_bits(self.seed, epoch, ids, DROP_PATH)
        return Batch(images.contiguous(memory_format=torch.channels_last), self.labels[ids], keys)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def _epoch_order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return self.sample_ids
        if self._order is None or self._order[0] != epoch:
            bits = counter_rng.random_bits(self.seed, epoch, self.sample_ids, ORDER)
            self._order = epoch, self.sample_ids[bits.argsort(stable=True)]
        return self._order[1]
