"""Small ImageFolder trees of JPEGs of many shapes, and loaders on them for any rank."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from darts_hpc.data.imagenet.list import open_manifest
from darts_hpc.data.imagenet.list.manifest import Manifest
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.imagenet.prepare.packing import pack
from darts_hpc.data.imagenet.prepare.staging import stage
from darts_hpc.data.imagenet.read.dali import DaliLoader
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.torchvision_loader import TorchvisionLoader
from darts_hpc.data.loading.batches import Batch, Loader
from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.distributed.world import World

SIZES = ((60, 40), (40, 60), (64, 64), (200, 33), (33, 150), (97, 61), (51, 90), (45, 46))
NUM_TRAIN, NUM_VALID = 27, 13


def save_jpeg(path: Path, number: int) -> None:
    """A smooth colourful picture, unlike any other number's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[number % len(SIZES)]
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)


def make_tree(root: Path) -> Path:
    """Three classes; train holds 27 images and val 13."""
    for part, count, first in (("train", NUM_TRAIN, 0), ("val", NUM_VALID, 500)):
        for i in range(count):
            save_jpeg(root / part / ("ant", "bee", "cat")[i % 3] / f"{part}_{i:03}.JPEG", first + i)
    return root


def open_loader(
    root: Path,
    manifest: Manifest,
    part: str = "train",
    *,
    kind: str = "dali",
    batch_size: int = 8,
    rank: int = 0,
    world_size: int = 1,
    threads: int = 1,
    prefetch: int = 2,
    exact: bool = False,
    colours: bool = True,
    limit: int = 0,
    seed: int = 3,
) -> DaliLoader | TorchvisionLoader:
    """The loader of one rank, with batches of world_size * batch_size images."""
    train = part == "train"
    images = manifest.train if train else manifest.val
    order = SampleOrder(
        torch.arange(len(images)), batch_size=batch_size, seed=seed, shuffle=train, drop_last=train,
        rank=rank, world_size=world_size,
    )  # fmt: skip
    samples = Samples(
        root=root, part=images, order=order, quarantine=Quarantine(root / "damaged.jsonl", limit), seed=seed,
        device=torch.device("cpu"), augment=train, image_size=32, resize=36, colours=colours,
    )  # fmt: skip
    if kind == "torchvision":
        return TorchvisionLoader(samples, num_workers=threads, prefetch=prefetch)
    return DaliLoader(samples, exact_jitter=exact, decode_on_gpu=False, num_threads=threads, prefetch=prefetch)


def joined(loaders: Sequence[Loader], epoch: int, first_step: int = 0) -> Iterator[Batch]:
    """The global batches of several ranks, step by step."""
    for parts in zip(*(loader.batches(epoch, first_step) for loader in loaders), strict=True):
        yield Batch(*map(torch.cat, zip(*parts, strict=True)))


def started(work: Callable[..., int | None], *arguments: object, failpoint: str = "") -> Callable[[], int | None]:
    """Start work in a process of its own, which kills itself at the failpoint; return what waits for its exit code.

    The process is forked from one that has imported torch and has no threads. It returns with what work returns.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_imagenet"])
    process = context.Process(target=_exit_with, args=(work, arguments, failpoint))
    process.start()

    def wait() -> int | None:
        process.join(200)
        return process.exitcode

    return wait


def _exit_with(work: Callable[..., int | None], arguments: tuple, failpoint: str) -> None:
    os.environ["DARTS_HPC_FAILPOINT"] = failpoint
    sys.exit(work(*arguments) or 0)


def pack_small(tree: Path, manifest: Manifest, destination: Path) -> None:
    """Pack into shards of a few images."""
    pack(tree, manifest, destination, shard_bytes=9_000, seed=1, num_threads=1)


def stage_small(tree: Path, manifest: Manifest, destination: Path) -> bool:
    """Stage; True, which is an exit code of 1, where there was something to do."""
    return stage(tree, manifest, destination, 1)


def open_counting(tree: Path) -> int:
    """Open the manifest; return how often this process made it."""
    made = []
    build = open_manifest.build_manifest
    open_manifest.build_manifest = lambda *arguments: made.append(1) or build(*arguments)
    open_manifest.open_manifest(tree, None, World(torch.device("cpu")))
    return len(made)


def signature(batches: Iterator[Batch]) -> list[list[tuple[int, int, bytes]]]:
    """For each step and image: its key, which is its sample id's, its label, and every bit of its pixels."""
    return [
        [(int(key), int(label), image.numpy().tobytes()) for image, label, key in zip(*batch, strict=True)]
        for batch in batches
    ]
