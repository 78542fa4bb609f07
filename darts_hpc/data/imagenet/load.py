"""From the data section of a config to ImageNet's loaders."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.data.class_folders import is_junk
from darts_hpc.data.imagenet.list.listing import PARTS
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.data.imagenet.list.quarantine import Quarantine, journal_of
from darts_hpc.data.imagenet.read.dali import DaliLoader, import_dali
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.synthetic import SyntheticLoader
from darts_hpc.data.imagenet.read.torchvision_loader import TorchvisionLoader
from darts_hpc.data.loading.batches import Loader
from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.data.loading.split import class_shares
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


class ImageNetSearch(NamedTuple):
    """The data of a search."""

    weights: Loader
    alphas: Loader
    valid: Loader
    """The alphas' images, their centres cut out."""
    classes: tuple[str, ...]
    digest: str
    quarantine: Quarantine | None


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
    validation images come in order, each exactly once, so that a rank's last batch may be smaller or empty.

    Raises ValueError, one line, for data that is missing, damaged beyond --max_bad_images, or too little.
    """
    source = _open_source(cfg, seed, world, PARTS)
    train, valid = (
        source.loader(part, torch.arange(source.num_images(part)), trains=part == "train") for part in PARTS
    )
    source.begin_quarantine()
    return ImageNet(train, valid, source.classes, source.digest, source.quarantine)


def open_search(
    cfg: ImageNetDataConfig,
    weight_share: float,
    alpha_share: float,
    seed: int,
    world: World,
    *,
    sampled: bool = False,
) -> ImageNetSearch:
    """Open this rank's loaders of a search on shares of each class's training images. Every rank calls it.

    `sampled`: the first validation batches are to be a random sample. Otherwise as open_imagenet.
    """
    source = _open_source(cfg, seed, world, PARTS)
    ids = class_shares(source.labels("train"), weight_share, alpha_share, seed, source.classes)
    step = cfg.batch_size * world.size
    for name, share, taken in zip(("weight", "alpha"), (weight_share, alpha_share), ids, strict=True):
        if len(taken) < step:
            raise ValueError(
                f"--{name}_share {share} of the training images is {len(taken)}, fewer than the {step} of a step "
                f"(--batch_size {cfg.batch_size} on {world.size} processes); raise it, or lower --batch_size"
            )
    weights, alphas = (source.loader("train", taken, trains=True) for taken in ids)
    valid = source.loader("train", ids[1], trains=False, shuffle=sampled)
    source.begin_quarantine()
    return ImageNetSearch(weights, alphas, valid, source.classes, source.digest, source.quarantine)


def open_validation(cfg: ImageNetDataConfig, seed: int, world: World) -> tuple[Loader, tuple[str, ...]]:
    """Open the validation loader alone, and return the classes' names; training images need not be there.

    Otherwise as open_imagenet.
    """
    source = _open_source(cfg, seed, world, ("val",))
    valid = source.loader("val", torch.arange(source.num_images("val")), trains=False)
    source.begin_quarantine()
    return valid, source.classes


def _open_source(cfg: ImageNetDataConfig, seed: int, world: World, parts: Sequence[str]) -> "_Stored | _Synthetic":
    return _Synthetic(cfg, seed, world) if cfg.loader == "synthetic" else _Stored(cfg, seed, world, parts)


class _Stored:
    """The images of a manifest, from which loaders take some."""

    def __init__(self, cfg: ImageNetDataConfig, seed: int, world: World, parts: Sequence[str]):
        if cfg.loader == "dali":
            import_dali()  # refused before the images are read
        self.cfg, self.seed, self.world = cfg, seed, world
        self.manifest, path = open_manifest(cfg.data, cfg.manifest, world, parts)
        self.classes, self.digest = self.manifest.classes, self.manifest.digest()
        self.quarantine = Quarantine(journal_of(path), cfg.max_bad_images)
        self._samples: dict[str, Samples] = {}

    def num_images(self, part: str) -> int:
        return len(getattr(self.manifest, part))

    def labels(self, part: str) -> Tensor:
        return torch.from_numpy(getattr(self.manifest, part).labels)

    def loader(self, part: str, ids: Tensor, *, trains: bool, shuffle: bool = False) -> Loader:
        """Return the loader of some images: for training, or as they are."""
        cfg = self.cfg
        order = _order(ids, cfg, self.seed, self.world, trains, shuffle)
        samples = Samples(
            root=cfg.data, part=getattr(self.manifest, part), order=order, quarantine=self.quarantine, seed=self.seed,
            device=self.world.device, augment=trains, image_size=cfg.image_size, resize=cfg.resize,
            colours=cfg.jitter != "none",
        )  # fmt: skip
        self._samples[part] = samples
        if cfg.loader == "torchvision":
            return TorchvisionLoader(samples, num_workers=cfg.num_threads, prefetch=cfg.prefetch)
        on_gpu = samples.device.type == "cuda" if cfg.decode == "auto" else cfg.decode == "gpu"
        if on_gpu and samples.device.type != "cuda":
            raise ValueError("--decode gpu needs a GPU, and the run is on the CPU; take --decode auto")
        return DaliLoader(
            samples, exact_jitter=cfg.jitter == "exact", decode_on_gpu=on_gpu, num_threads=cfg.num_threads,
            prefetch=cfg.prefetch,
        )  # fmt: skip

    def begin_quarantine(self) -> None:
        """Look at the images that were found damaged before, once for each part that is read. Every rank calls it."""
        checks = [samples.damaged_among for samples in self._samples.values()]
        run_on_main(self.world, lambda: self.quarantine.begin(self.manifest.damaged, checks))


class _Synthetic:
    """Made-up images, in place of stored ones."""

    quarantine = None

    def __init__(self, cfg: ImageNetDataConfig, seed: int, world: World):
        self.cfg, self.seed, self.world = cfg, seed, world
        self.classes = tuple(str(label) for label in range(cfg.synthetic_classes))
        self.digest = f"synthetic-{cfg.synthetic_images}-{cfg.synthetic_classes}"

    def num_images(self, part: str) -> int:
        return self.cfg.synthetic_images if part == "train" else max(1, self.cfg.synthetic_images // 25)

    def labels(self, part: str) -> Tensor:
        return torch.arange(self.num_images(part)) % self.cfg.synthetic_classes

    def loader(self, part: str, ids: Tensor, *, trains: bool, shuffle: bool = False) -> Loader:
        return SyntheticLoader(
            _order(ids, self.cfg, self.seed, self.world, trains, shuffle), num_classes=self.cfg.synthetic_classes,
            image_size=self.cfg.image_size, seed=self.seed + PARTS.index(part), device=self.world.device,
        )  # fmt: skip

    def begin_quarantine(self) -> None:
        pass


def _order(
    ids: Tensor, cfg: ImageNetDataConfig, seed: int, world: World, trains: bool, shuffle: bool = False
) -> SampleOrder:
    batch_size = cfg.batch_size if trains else cfg.valid_batch_size or cfg.batch_size
    return SampleOrder(
        ids, batch_size=batch_size, seed=seed, shuffle=trains or shuffle, drop_last=trains, rank=world.rank,
        world_size=world.size,
    )  # fmt: skip
