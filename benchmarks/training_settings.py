"""The trainings that train_step.py times: their sizes, and made-up images for them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import torch

from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import Batch, BatchSource, Loader
from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.loops import StepConfig

T = TypeVar("T")
STEPS_PER_EPOCH = 4
IMAGES = {"cifar": (50_000, 10_000), "imagenet": (1_281_167, 50_000)}
"""Images of an epoch's training and of its evaluation."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A training of the paper, or a smaller one."""

    stem: str
    init_channels: int
    layers: int
    classes: int
    batch_size: int
    image_size: int
    drop_path_prob: float
    label_smooth: float
    weight_decay: float

    def network(self, kind: type[DerivedNetwork] = DerivedNetwork) -> DerivedNetwork:
        """Return the network of DARTS' cell, the same for each kind."""
        torch.manual_seed(0)
        return kind(self.stem, self.init_channels, self.classes, self.layers, True, load_genotype("DARTS"))

    @property
    def step_cfg(self) -> StepConfig:
        return StepConfig(batch_size=self.batch_size, label_smooth=self.label_smooth)


FULL = {
    "cifar": Setting(
        stem="cifar", init_channels=36, layers=20, classes=10, batch_size=96, image_size=32, drop_path_prob=0.1,
        label_smooth=0.0, weight_decay=3e-4,
    ),
    "imagenet": Setting(
        stem="imagenet", init_channels=48, layers=14, classes=1000, batch_size=128, image_size=224, drop_path_prob=0.0,
        label_smooth=0.1, weight_decay=3e-5,
    ),
}  # fmt: skip
ON_CPU = {"cifar": {"batch_size": 16}, "imagenet": {"batch_size": 8}}
QUICK = {
    "cifar": {"init_channels": 16, "layers": 6, "batch_size": 16},
    "imagenet": {"init_channels": 16, "layers": 4, "batch_size": 4, "image_size": 128},
}
"""What of FULL is smaller where steps are timed."""


class OneBatch:
    """A loader whose only batch is there."""

    num_samples = steps_per_epoch = 1

    def __init__(self, batch: Batch, device: torch.device):
        self.batch, self.device = batch, device

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        yield self.batch


def endless(batches: Callable[[int, int], Iterator[T]]) -> Iterator[T]:
    """Yield a loader's batches, epoch after epoch."""
    for epoch in count():
        yield from batches(epoch, 0)


def build_loader(setting: Setting, device: torch.device) -> Loader:
    """Return a loader: on CIFAR of a data set on the device, on ImageNet of one batch that is there."""
    size = setting.image_size
    if setting.stem == "imagenet":
        images = torch.randn(setting.batch_size, 3, size, size, device=device)
        labels = torch.randint(setting.classes, (setting.batch_size,), device=device)
        return OneBatch(Batch(images.to(memory_format=torch.channels_last), labels, labels), device)
    total = STEPS_PER_EPOCH * setting.batch_size
    images = torch.randint(0, 256, (total, 3, size, size), dtype=torch.uint8, device=device)
    part = ImageSet(images, torch.randint(setting.classes, (total,), device=device))
    classes = tuple(map(str, range(setting.classes)))
    thirds = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    data = DataSet(name="noise", classes=classes, train=part, test=part, crop_padding=4, flip=True, **thirds)
    return BatchSource(
        data, part, batch_size=setting.batch_size, seed=0, device=device, augmentation=Augmentation(4, True, 16),
        shuffle=True, drop_last=True, sample_ids=torch.arange(total, device=device),
    )  # fmt: skip
