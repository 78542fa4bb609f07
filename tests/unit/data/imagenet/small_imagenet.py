"""Small ImageFolder trees of JPEGs of many shapes, and loaders on them for any rank."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from darts_hpc.data.batches import Batch, Loader
from darts_hpc.data.imagenet.dali import DaliLoader
from darts_hpc.data.imagenet.manifest import Manifest
from darts_hpc.data.imagenet.quarantine import Quarantine
from darts_hpc.data.imagenet.samples import Samples
from darts_hpc.data.imagenet.torchvision_loader import TorchvisionLoader
from darts_hpc.data.order import SampleOrder

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
    limit: int = 0,
    seed: int = 3,
) -> Loader:
    """The loader of one rank, with batches of world_size * batch_size images."""
    train = part == "train"
    images = manifest.train if train else manifest.val
    order = SampleOrder(
        torch.arange(len(images)), batch_size=batch_size, seed=seed, shuffle=train, drop_last=train,
        rank=rank, world_size=world_size,
    )  # fmt: skip
    samples = Samples(
        root=root, part=images, order=order, quarantine=Quarantine(root / "damaged.jsonl", limit), seed=seed,
        device=torch.device("cpu"), augment=train, image_size=32, resize=36,
    )  # fmt: skip
    if kind == "torchvision":
        return TorchvisionLoader(samples, num_workers=threads, prefetch=prefetch)
    return DaliLoader(samples, exact_jitter=exact, decode_on_gpu=False, num_threads=threads, prefetch=prefetch)


def joined(loaders: list[Loader], epoch: int, first_step: int = 0) -> Iterator[Batch]:
    """The global batches of several ranks, step by step."""
    for parts in zip(*(loader.batches(epoch, first_step) for loader in loaders), strict=True):
        yield Batch(*map(torch.cat, zip(*parts, strict=True)))


def forked(work: Callable[[], int | None], failpoint: str = "") -> Callable[[], int]:
    """Start work in a process of its own, which kills itself at the failpoint; return what waits for its exit code."""
    child = os.fork()  # a second of imports cheaper than a new interpreter
    if not child:
        os.environ["DARTS_HPC_FAILPOINT"] = failpoint
        code = 99
        try:
            code = int(work() or 0)
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def signature(batches: Iterator[Batch]) -> list[list[tuple[int, int, bytes]]]:
    """For each step and image: its key, which is its sample id's, its label, and every bit of its pixels."""
    return [
        [(int(key), int(label), image.numpy().tobytes()) for image, label, key in zip(*batch, strict=True)]
        for batch in batches
    ]
