"""Images in memory: what every data set is once it is loaded."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World

log = logging.getLogger(__name__)

CHANNELS = ("red", "green", "blue")
ONE_LEVEL = 1 / 255


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images: (N, 3, H, W) uint8 and (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ImageSet":
        """Return the same images on a device, in channels_last."""
        images = self.images.contiguous(memory_format=torch.channels_last)
        return ImageSet(images.to(device), self.labels.to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """A data set: training and test images, their statistics, and how training images may be changed.

    mean, std: per channel, of images scaled to 0..1. crop_padding: pixels a random crop may shift by. flip: whether a
    mirrored image is of the same class.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.train.images.shape[-1]

    def to(self, device: torch.device) -> "DataSet":
        """Return the data set with its images on a device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def facts(self) -> DatasetFacts:
        """Return how large it is."""
        return DatasetFacts(len(self.train), len(self.test), self.image_size, self.num_classes)

    def fingerprint(self) -> str:
        """Return a digest of every training and test pixel and label, and for arrays of how they may be changed."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            for tensor in (part.images, part.labels):
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        if self.name == "arrays":  # every other name stands for one way
            digest.update(f"{self.crop_padding} {self.flip}".encode())
        return digest.hexdigest()[:16]


class ChannelStatistics:
    """Mean and standard deviation per channel of uint8 images (N, 3, H, W) that come in parts, and if they differ."""

    def __init__(self) -> None:
        self._levels = torch.zeros(len(CHANNELS), 256, dtype=torch.int64)  # pixels of each
        self._first: Tensor | None = None
        self.differ = False

    def add(self, images: Tensor) -> None:
        """Count some more images."""
        self._first = images[0] if self._first is None else self._first
        self.differ = self.differ or not bool((images == self._first).all())
        self._levels += torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(len(CHANNELS))])

    def read(self) -> tuple[list[float], list[float]]:
        """Return both of images scaled to 0..1, without a rounding before the last."""
        moments = []
        for counts in self._levels.tolist():
            number, total, squares = (sum(n * level**power for level, n in enumerate(counts)) for power in range(3))
            variance = (number * squares - total**2) / number**2
            moments.append((total / number / 255, math.sqrt(variance) / 255))
        mean, std = zip(*moments, strict=True)
        return list(mean), list(std)


def channel_statistics(images: Tensor, world: World | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 images (N, 3, H, W) scaled to 0..1.

    A deviation below one of the 256 levels is no spread to divide by: 1 stands for it, and the log says so.
    """
    scaled = images.to(torch.float64) / 255
    return _with_spread(scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3), correction=0).tolist(), world)


def _with_spread(
    mean: list[float], std: list[float], world: World | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    uniform = [name for name, spread in zip(CHANNELS, std, strict=True) if spread < ONE_LEVEL]
    if uniform and (world is None or world.is_main):
        log.warning("the training images have no spread in %s, which is not scaled (std 1)", " and ".join(uniform))
    return tuple(mean), tuple(1.0 if spread < ONE_LEVEL else spread for spread in std)


def measured_data_set(
    name: str,
    source: str,
    classes: Sequence[str],
    train: ImageSet,
    test: ImageSet,
    *,
    flip: bool = True,
    crop_padding: int | None = None,
    world: World | None = None,
    statistics: ChannelStatistics | None = None,
) -> DataSet:
    """Return a data set of a user's own, with the statistics of its training images.

    `source` names it in an error; random crops shift by an eighth of the side where crop_padding is None. `statistics`:
    of training images that are not in memory.

    Raises ValueError where a class has no training image, or all training images are equal.
    """
    counts = train.labels.bincount(minlength=len(classes))
    if (absent := counts == 0).any():
        missing = classes[int(absent.int().argmax())]
        raise ValueError(f"{source}: class {missing!r} has no training image; expected some of each class")
    if not (_differ(train.images) if statistics is None else statistics.differ):
        raise ValueError(f"{source}: all {len(train)} training images are equal; expected images that differ")
    if statistics is None:
        mean, std = channel_statistics(train.images, world)
    else:
        mean, std = _with_spread(*statistics.read(), world)
    padding = max(1, train.images.shape[-1] // 8) if crop_padding is None else crop_padding
    return DataSet(
        name=name, classes=tuple(classes), train=train, test=test, mean=mean, std=std, crop_padding=padding, flip=flip
    )


def _differ(images: Tensor) -> bool:
    return not torch.equal(images.amin(0), images.amax(0))
