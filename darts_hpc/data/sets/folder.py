"""Any images in one folder per class: train/CLASS/* and test/CLASS/* (or val/CLASS/*)."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darts_hpc.data.class_folders import label_images, list_tree, remarks
from darts_hpc.data.rgb import DamagedImage, decode, is_animated
from darts_hpc.data.sets.image_set import ChannelStatistics, DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.data.stored_bytes import read_bytes
from darts_hpc.distributed.world import World
from darts_hpc.user_files import is_folder

log = logging.getLogger(__name__)

BLOCK = 1024
"""Images that are in memory at once while each is read."""


class Listing(NamedTuple):
    """The classes, and the training and test images, each a path relative to the root and a label."""

    classes: tuple[str, ...]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    remarks: str


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return the images under `root`, each resized by its shorter side and cropped to the centre at image_size.

    All of them are held in memory. Raises ValueError for a missing part, a class in one part and not in the other, a
    class without images, an image that can't be read, and training images that are all equal.
    """
    if image_size is None:
        raise ValueError("--dataset folder needs --image_size, the side in pixels that images are resized to")
    listing = _list(root)
    is_main = world is None or world.is_main
    if listing.remarks and is_main:
        log.warning("--data %s: %s", root, listing.remarks)
    pixels = read_images(_named(root, [path for path, _ in listing.train + listing.test]), image_size, is_main)
    labels = torch.tensor([label for _, label in listing.train + listing.test])
    num_train = len(listing.train)
    train, test = ImageSet(pixels[:num_train], labels[:num_train]), ImageSet(pixels[num_train:], labels[num_train:])
    return measured_data_set("folder", f"--data {root}", listing.classes, train, test, world=world)


def open_stream(root: Path, image_size: int, world: World) -> tuple[DataSet, Callable[[int], Tensor], str]:
    """Return what load does without the pixels, what reads those of a training image, and the data's fingerprint.

    Each image is read once, for the statistics and the fingerprint. Raises ValueError as load does.
    """
    listing = _list(root)
    if listing.remarks and world.is_main:
        log.warning("--data %s: %s", root, listing.remarks)
    parts, digest, statistics = (listing.train, listing.test), hashlib.sha256(), ChannelStatistics()
    labels = [torch.tensor([label for _, label in part], dtype=torch.int64) for part in parts]
    for part, part_labels in zip(parts, labels, strict=True):
        for start in range(0, len(part), BLOCK):
            files = [path for path, _ in part[start : start + BLOCK]]
            pixels = read_images(_named(root, files), image_size, world.is_main)
            digest.update(pixels.contiguous().numpy().tobytes())
            if part is listing.train:
                statistics.add(pixels)
        digest.update(part_labels.numpy().tobytes())
    none = torch.empty(0, 3, image_size, image_size, dtype=torch.uint8)
    train, test = (ImageSet(none, part_labels) for part_labels in labels)
    data = measured_data_set(
        "folder", f"--data {root}", listing.classes, train, test, world=world, statistics=statistics
    )  # fmt: skip

    def read(sample_id: int) -> Tensor:
        ((name, content_of),) = _named(root, [listing.train[sample_id][0]])
        return torch.from_numpy(_read_image(name, content_of, image_size)[0].copy()).permute(2, 0, 1)

    return data, read, digest.hexdigest()[:16]


def _named(root: Path, files: Iterable[str]) -> list[tuple[str, Callable[[], bytes]]]:
    return [(str(root / path), lambda path=path: read_bytes(root / path)) for path in files]


def count(root: Path, image_size: int | None) -> DatasetFacts:
    """Count images and classes under `root` without opening an image. Raises ValueError as load does."""
    listing = _list(root)
    return DatasetFacts(len(listing.train), len(listing.test), image_size or 0, len(listing.classes))


def _list(root: Path) -> Listing:
    test = next((part for part in ("test", "val") if is_folder(root / part)), None)
    if not is_folder(root / "train") or test is None:
        raise ValueError(
            f"--data {root} needs train/CLASS/* and test/CLASS/* (or val/CLASS/*) with one folder per class"
        )
    parts = ("train", test)
    tree = list_tree(root, parts)
    classes, images = label_images(root, parts, tree)
    return Listing(classes, images["train"], images[test], remarks(tree, parts))


def read_images(images: Iterable[tuple[str, Callable[[], bytes]]], size: int, is_main: bool) -> Tensor:
    """Return images (N, 3, size, size) uint8, each given by its name and by what reads its bytes.

    Animations are named in the log. Raises ValueError, one line, for an image that can't be read.
    """

    with ThreadPoolExecutor() as pool:
        pixels, animated = zip(*pool.map(lambda image: _read_image(image[0], image[1], size), images), strict=True)
    if (names := list(filter(None, animated))) and is_main:
        log.warning(
            "%d images are animations or have several pages, such as %s: the first picture counts", len(names), names[0]
        )
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _read_image(name: str, content_of: Callable[[], bytes], size: int) -> tuple[np.ndarray, str | None]:
    """Return the pixels (size, size, 3), and the name of an animation."""
    try:
        content = content_of()
        return cut_centre(decode(content), size), name if is_animated(content) else None
    except DamagedImage as damage:
        raise ValueError(f"{name} can't be read as an image ({damage}); repair or remove it") from None


def cut_centre(image: Image.Image, size: int) -> np.ndarray:
    """Return an image as (size, size, 3) uint8: its shorter side resized to size, and the centre of it."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
