"""From the data section of a config to ImageNet's loaders."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from darts_hpc.config.train_imagenet import ImageNetDataConfig
from darts_hpc.data.class_folders import is_junk
from darts_hpc.data.imagenet.list.listing import PARTS
from darts_hpc.data.imagenet.list.manifest import Manifest, Split
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.data.imagenet.list.quarantine import Quarantine, journal_of
from darts_hpc.data.imagenet.read.dali import DaliLoader, import_dali
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.synthetic import SyntheticLoader
from darts_hpc.data.imagenet.read.torchvision_loader import TorchvisionLoader
from darts_hpc.data.loading.batches import Loader
from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.data.sets.table import DATASETS, DatasetFacts
from darts_hpc.distributed.long_tasks import run_on_main
from darts_hpc.distributed.world import World
from darts_hpc.user_files import is_folder, list_folder


class ImageNet(NamedTuple):
    """The data of a run."""

    train: Loader
    valid: Loader
    classes: tuple[str, ...]
    """Names by label."""
    digest: str
    """A checkpoint must agree with it."""
    quarantine: Quarantine | None
    """Where damaged images are counted; made-up images have none."""


def expected_facts(cfg: ImageNetDataConfig) -> DatasetFacts:
    """Return how large the data are, as far as that is known before the images are listed.

    The classes are those of the folders under train/; of tar shards, as many as ImageNet has.
    """
    facts = DATASETS["imagenet"]._replace(image_size=cfg.image_size)
    if cfg.loader == "synthetic":
        return facts._replace(num_train=cfg.synthetic_images, num_classes=cfg.synthetic_classes)
    folders = [path for path in list_folder(cfg.data / PARTS[0]) if not is_junk(path.name) and is_folder(path)]
    return facts._replace(num_classes=len(folders) or facts.num_classes)


def open_imagenet(cfg: ImageNetDataConfig, seed: int, world: World) -> ImageNet:
    """Open the training and validation loaders of this rank. Every rank calls it.

    Training images are shuffled and augmented, and a rest that does not fill a global batch is left out of the epoch;
    validation images come in order, each exactly once, so that a rank's last batches may be smaller or empty.

    Raises ValueError, one line, for data that is missing, damaged beyond --max_bad_images, or too little.
    """
    if cfg.loader == "synthetic":
        train, valid = (_synthetic(part, cfg, seed, world) for part in PARTS)
        digest = f"synthetic-{cfg.synthetic_images}-{cfg.synthetic_classes}"
        return ImageNet(train, valid, _synthetic_classes(cfg), digest, None)
    samples, manifest = _open_samples(cfg, seed, world, PARTS)
    train, valid = (_loader(cfg, samples[part]) for part in PARTS)
    return ImageNet(train, valid, manifest.classes, manifest.digest(), samples["train"].quarantine)


def open_validation(cfg: ImageNetDataConfig, seed: int, world: World) -> tuple[Loader, tuple[str, ...]]:
    """Open the validation loader alone, and return the classes' names; training images need not be there.

    Otherwise as open_imagenet.
    """
    if cfg.loader == "synthetic":
        return _synthetic("val", cfg, seed, world), _synthetic_classes(cfg)
    samples, manifest = _open_samples(cfg, seed, world, ("val",))
    return _loader(cfg, samples["val"]), manifest.classes


def _open_samples(
    cfg: ImageNetDataConfig, seed: int, world: World, parts: Sequence[str]
) -> tuple[dict[str, Samples], Manifest]:
    if cfg.loader == "dali":
        import_dali()  # refused before the images are read
    manifest, path = open_manifest(cfg.data, cfg.manifest, world, parts)
    quarantine = Quarantine(journal_of(path), cfg.max_bad_images)
    samples = {}
    for name in parts:
        part: Split = getattr(manifest, name)
        samples[name] = Samples(
            root=cfg.data, part=part, order=_order(name, len(part), cfg, seed, world), quarantine=quarantine, seed=seed,
            device=world.device, augment=name == "train", image_size=cfg.image_size, resize=cfg.resize,
        )  # fmt: skip
    checks = [each.damaged_among for each in samples.values()]
    run_on_main(world, lambda: quarantine.begin(manifest.damaged, checks))
    return samples, manifest


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


def _synthetic(part: str, cfg: ImageNetDataConfig, seed: int, world: World) -> SyntheticLoader:
    num_images = cfg.synthetic_images if part == "train" else max(1, cfg.synthetic_images // 25)
    return SyntheticLoader(
        _order(part, num_images, cfg, seed, world), num_classes=cfg.synthetic_classes, image_size=cfg.image_size,
        seed=seed + PARTS.index(part), device=world.device,
    )  # fmt: skip


def _synthetic_classes(cfg: ImageNetDataConfig) -> tuple[str, ...]:
    return tuple(str(label) for label in range(cfg.synthetic_classes))


def _order(part: str, num_images: int, cfg: ImageNetDataConfig, seed: int, world: World) -> SampleOrder:
    common: dict[str, Any] = {"seed": seed, "rank": world.rank, "world_size": world.size}
    if part == "train":
        return SampleOrder(torch.arange(num_images), batch_size=cfg.batch_size, shuffle=True, drop_last=True, **common)
    return SampleOrder(torch.arange(num_images), batch_size=cfg.valid_batch_size or cfg.batch_size, **common)
