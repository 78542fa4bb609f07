"""Batches as a pure function of (seed, epoch, step); here from images that live on the device as one tensor."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.order import DROP_PATH, IMAGE, SampleOrder
from darts_hpc.data.sets.image_set import DataSet, ImageSet


class Batch(NamedTuple):
    """images (B, 3, H, W) float32, normalised, channels_last; labels (B,) int64; keys (B,) int64, random."""

    images: Tensor
    labels: Tensor
    keys: Tensor


class Selection(NamedTuple):
    """What makes a batch of images that are on the device: ids (B,), keys (B,) and draws (5, B), as in _Epoch."""

    ids: Tensor
    keys: Tensor
    draws: Tensor | tuple[()]
    """Empty for images that are left as they are."""


class Loader(Protocol):
    """The source of this rank's batches: `num_samples` over all ranks, in `steps_per_epoch` steps, on `device`."""

    num_samples: int
    steps_per_epoch: int
    device: torch.device

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on: one per step, a pure function of (epoch, step)."""
        ...


class Cycle:
    """A loader's batches by number, its epochs one after another; read ahead as long as each follows the last."""

    def __init__(self, loader: Loader):
        self.loader = loader
        self._batches: Iterator[Batch] = iter(())
        self._next = -1

    def batch(self, number: int) -> Batch:
        """Return this rank's batch of a number, counted from 0 over all epochs."""
        epoch, step = divmod(number, self.loader.steps_per_epoch)
        if not step or number != self._next:
            self._batches = self.loader.batches(epoch, step)
        self._next = number + 1
        return next(self._batches)


class _Epoch(NamedTuple):
    """All random numbers of an epoch, in its order: drawn at once, for one batch's take as many operations."""

    number: int
    ids: Tensor
    keys: Tensor
    draws: Tensor | None
    """What Augmentation.draw gives."""


class BatchSource:
    """Random access to the batches of any epoch, in the order of SampleOrder.

    Samples and their augmentation depend on (seed, epoch, step) alone, and not on the number of ranks.

    Args:
        part: training or test images.
        sample_ids: which of them, and in which order when not shuffled; all by default.
        batch_size: images per step on this rank.
        augmentation: None leaves the images as they are.
        shuffle, drop_last: as for SampleOrder.

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
        self._shown = self.images  # or, with a policy, those that it changed for this epoch
        if augmentation is not None and augmentation.policy is not None:
            self._shown = self.images.clone()
        self.labels = part.labels.to(device)
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (data.mean, data.std))
        self.seed, self.augmentation = seed, augmentation
        self.order = SampleOrder(
            ids.to(device), batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last,
            rank=rank, world_size=world_size,
        )  # fmt: skip
        self.num_samples, self.steps_per_epoch = self.order.num_samples, self.order.steps_per_epoch
        self._epoch = _Epoch(-1, ids, ids, None)  # what was drawn last

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on."""
        for step in range(first_step, self.steps_per_epoch):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return this rank's batch of a step."""
        return self.load(self.select(epoch, step))

    def selections(self, epoch: int, first_step: int = 0) -> Iterator[Selection]:
        """Yield what `load` makes this rank's batches of, from a step on."""
        for step in range(first_step, self.steps_per_epoch):
            yield self.select(epoch, step)

    def select(self, epoch: int, step: int) -> Selection:
        """Return what this rank's batch of a step is made of: views of what was drawn for the epoch."""
        if self._epoch.number != epoch:
            self._epoch = self._draw(epoch)
        batch = self.order.batch_of(step)
        draws = () if self._epoch.draws is None else self._epoch.draws[:, batch]
        return Selection(self._epoch.ids[batch], self._epoch.keys[batch], draws)

    def load(self, selection: Selection) -> Batch:
        """Return the batch of a selection, by the device alone: a CUDA graph can hold it."""
        return self._finish(selection, self._shown, selection.ids)

    def finish(self, epoch: int, step: int, images: Tensor) -> Batch:
        """Return this rank's batch of a step from its images (B, 3, H, W) uint8, which were not on the device."""
        selection = self.select(epoch, step)
        return self._finish(selection, images, torch.arange(len(selection.ids), device=self.device))

    def _finish(self, selection: Selection, images: Tensor, rows: Tensor) -> Batch:
        ids, keys, draws = selection
        if self.augmentation is None or not isinstance(draws, Tensor):
            images = self._normalise(images[rows])
        else:
            images = self.augmentation.move(images, rows, draws)
            images = self.augmentation.cut_out(self._normalise(images), draws)
        return Batch(images.contiguous(memory_format=torch.channels_last), self.labels[ids], keys)

    def _draw(self, epoch: int) -> _Epoch:
        ids, draws = self.order.epoch_ids(epoch), None
        if self.augmentation is not None:
            keys = counter_rng.random_bits(self.seed, epoch, ids, IMAGE)
            draws = self.augmentation.draw(keys, *self.images.shape[-2:])
            if self.augmentation.policy is not None:
                own = self.order.own_positions()
                changed = self.images[ids[own]]
                self.augmentation.policy.change(changed, keys[own])
                self._shown[ids[own]] = changed
        return _Epoch(epoch, ids, counter_rng.random_bits(self.seed, epoch, ids, DROP_PATH), draws)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std
