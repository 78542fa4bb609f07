"""From the data section of a config to ImageNet's loaders."""

from typing import Any, NamedTuple

import torch

from darts_hpc.config.imagenet import ImageNetDataConfig
from darts_hpc.data.batches import Loader
from darts_hpc.data.imagenet.dali import DaliLoader, import_dali
from darts_hpc.data.imagenet.open_manifest import open_manifest
from darts_hpc.data.imagenet.quarantine import Quarantine, journal_of
from darts_hpc.data.imagenet.samples import Samples
from darts_hpc.data.imagenet.synthetic import SyntheticLoader
from darts_hpc.data.imagenet.torchvision_loader import TorchvisionLoader
from darts_hpc.data.order import SampleOrder
from darts_hpc.distributed.waiting import run_on_main
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
    if cfg.loader == "dali":
        import_dali()  # refused before the images are read
    manifest, path = open_manifest(cfg.data, cfg.manifest, world)
    quarantine = Quarantine(journal_of(path), cfg.max_bad_images)
    orders = _orders(len(manifest.train), len(manifest.val), cfg, seed, world)
    train, valid = (
        Samples(
            root=cfg.data, part=part, order=order, quarantine=quarantine, seed=seed, device=world.device,
            augment=augment, image_size=cfg.image_size, resize=cfg.resize,
        )
        for part, order, augment in zip((manifest.train, manifest.val), orders, (True, False), strict=True)
    )  # fmt: skip
    run_on_main(world, lambda: quarantine.begin(manifest.damaged, (train.is_damaged, valid.is_damaged)))
    return ImageNet(_loader(cfg, train), _loader(cfg, valid), manifest.classes, manifest.digest())


def _loader(cfg: ImageNetDataConfig, samples: Samples) -> Loader:
    if cfg.loader == "torchvision":
        return TorchvisionLoader(samples, num_workers=cfg.num_threads, prefetch=cfg.prefetch)
    on_gpu = samples.device.type == "cuda" if cfg.decode == "auto" else cfg.decode == "gpu"
    if on_gpu and samples.device.type != "cuda":
        raise ValueError("--decode gpu needs a GPU, and the run is on the CPU; take --decode auto")
    return DaliLoader(
        samples, exact_jitter=cfg.jitter == "exact", decode_on_gpu=on_gpu, num_threads=cfg.num_threads,
        prefetch=cfg.prefetch,
    )  # fmt: skip


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
