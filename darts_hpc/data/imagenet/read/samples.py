"""One part of ImageNet as a loader needs it: which images when, their verified bytes, and how a batch is finished."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.imagenet.list.manifest import Damaged, Split
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.imagenet.list.verify import read_sample, verified
from darts_hpc.data.imagenet.read.augment_params import AugmentParams, centre, draw
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.loading.order import DROP_PATH, SampleOrder
from darts_hpc.data.rgb import DamagedImage
from darts_hpc.data.stored_bytes import Shards

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, as in the original."""


@dataclass(kw_only=True, eq=False)
class Samples:
    """The images of train or val on this rank.

    augment: training images get a random box, flip and, where `colours`, other colours; validation images are resized
    by their shorter side to `resize`, and their centre is cut out. image_size: side of the images that come out.
    """

    root: Path
    part: Split
    order: SampleOrder
    quarantine: Quarantine
    seed: int
    device: torch.device
    augment: bool
    image_size: int
    resize: int
    colours: bool = True
    _refused: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.labels = torch.from_numpy(self.part.labels).to(self.device)
        self.mean, self.std = (
            torch.tensor([255 * share for share in colours], device=self.device).repeat(self.image_size)  # a row
            for colours in (MEAN, STD)
        )

    def read(self, sample_id: int) -> bytes:
        """Return an image's bytes, which are those that the manifest was made from. Raises DamagedImage."""
        if sample_id in self._refused:
            raise DamagedImage(self._refused[sample_id])
        if self.part.keys is None:
            return read_sample(self.root, self.part, sample_id)
        return verified(self._read_shard(sample_id), self.part, sample_id)

    def damaged_among(self, names: Collection[str]) -> set[str]:
        """Return those names that are of a sample here which can't be read as it was."""
        damaged = set()
        for name, sample_id in self.part.find(names).items():
            try:
                self.read(sample_id)
            except DamagedImage:
                damaged.add(name)
        return damaged

    def leave_out(self, sample_id: int, reason: str) -> None:
        """Name an image as damaged. Raises ValueError with the list when there are too many."""
        self.quarantine.add(Damaged(self.part.name(sample_id), reason))

    def refuse(self, sample_id: int, reason: str) -> None:
        """Treat an image as damaged from now on, though its bytes are the right ones."""
        self._refused[sample_id] = reason
        self.leave_out(sample_id, reason)

    def sizes(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return widths and heights (B,) int64."""
        index = ids.numpy()
        return torch.from_numpy(self.part.widths[index]).long(), torch.from_numpy(self.part.heights[index]).long()

    def augment_params(self, epoch: int, ids: Tensor) -> AugmentParams:
        """Return what happens to training images in an epoch."""
        params = draw(self.seed, epoch, ids, *self.sizes(ids))
        return params if self.colours else params._replace(orders=params.orders[:, :0])

    def centres(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sizes and corners of validation images, as augment_params.centre does."""
        return centre(*self.sizes(ids), self.resize, self.image_size)

    def finish(self, epoch: int, ids: Tensor, pixels: Tensor) -> Batch:
        """Make a batch of pixels (B, H, W, 3) uint8, on whatever device they are.

        Raises ValueError for a training batch that damage left without any image: it has no loss.
        """
        if self.augment and not len(ids):
            raise ValueError(
                f"all {self.order.batch_size} images of a training batch are damaged, see {self.quarantine.journal}; "
                "fix them, or raise --batch_size"
            )
        ids = ids.to(self.device, non_blocking=True)
        pixels = pixels.to(self.device, non_blocking=True)
        rows = pixels.flatten(2).float().sub_(self.mean).div_(self.std)  # (B, H, 3 W): long loops, 2.6 times as fast
        images = rows.view(pixels.shape).permute(0, 3, 1, 2)  # channels_last in memory
        keys = counter_rng.random_bits(self.seed, epoch, ids, DROP_PATH)
        return Batch(images, self.labels[ids], keys)

    def no_pixels(self) -> Tensor:
        """Return the pixels of no image."""
        return torch.empty(0, self.image_size, self.image_size, 3, dtype=torch.uint8)

    def _read_shard(self, sample_id: int) -> bytes:
        part = self.part
        file, offset, size = (int(column[sample_id]) for column in (part.files, part.offsets, part.sizes))
        return self._shards.read(f"{self.root}/{part.file_names[file]}", offset, size)

    @cached_property
    def _shards(self) -> Shards:
        """Those of this process: replace(samples), which is sent to others, has none yet."""
        return Shards()
