"""From the data section of a config to ImageNet's loaders."""

from typing import Any, NamedTuple

import torch

from darts_hpc.config.imagenet import ImageNetDataConfig
from darts_hpc.data.batches import Loader
from darts_hpc.data.imagenet.synthetic import SyntheticLoader
from darts_hpc.data.order import SampleOrder
from darts_hpc.distributed.world import World


class ImageNet(NamedTuple):
    """The loaders of a run, the classes' names by label, and a digest of the data that a checkpoint must agree with."""

    train: Loader
    valid: Loader
    classes: tuple[str, ...]
    digest: str


def open_imagenet(cfg: ImageNetDataConfig, seed: int, world: World) -> ImageNet:
    """Open the training and validation loaders of this rank. Every rank calls it.

    Training images are shuffled and augmented, and a rest that does not fill a global batch is left out of the epoch;
    validation images come in order, each exactly once, so that a rank's last batches may be smaller or empty.

    Raises ValueError, one line, for data that is missing, damaged beyond --max_bad_images, or too little.
    """
    if cfg.loader == "synthetic":
        return _open_synthetic(cfg, seed, world)
    raise ValueError(f"--loader {cfg.loader} is not here yet; choose synthetic")


def _open_synthetic(cfg: ImageNetDataConfig, seed: int, world: World) -> ImageNet:
    num_images, num_classes = cfg.synthetic_images, cfg.synthetic_classes
    train, valid = _orders(num_images, max(1, num_images // 25), cfg, seed, world)
    train_loader, valid_loader = (
        SyntheticLoader(order, num_classes=num_classes, image_size=cfg.image_size, seed=seed + i, device=world.device)
        for i, order in enumerate((train, valid))
    )
    classes = tuple(str(label) for label in range(num_classes))
    return ImageNet(train_loader, valid_loader, classes, f"synthetic-{num_images}-{num_classes}")


def _orders(
    num_train: int, num_valid: int, cfg: ImageNetDataConfig, seed: int, world: World
) -> tuple[SampleOrder, SampleOrder]:
    common: dict[str, Any] = {"seed": seed, "rank": world.rank, "world_size": world.size}
    return (
        SampleOrder(torch.arange(num_train), batch_size=cfg.batch_size, shuffle=True, drop_last=True, **common),
        SampleOrder(torch.arange(num_valid), batch_size=cfg.valid_batch_size or cfg.batch_size, **common),
    )
