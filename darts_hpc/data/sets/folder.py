"""Any images in one folder per class: train/CLASS/* and test/CLASS/* (or val/CLASS/*)."""

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
from darts_hpc.data.sets.image_set import DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.data.stored_bytes import read_bytes
from darts_hpc.distributed.world import World
from darts_hpc.user_files import is_folder

log = logging.getLogger(__name__)


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
    images = [(str(root / path), lambda path=path: read_bytes(root / path)) for path, _ in listing.train + listing.test]
    pixels = read_images(images, image_size, is_main)
    labels = torch.tensor([label for _, label in listing.train + listing.test])
    num_train = len(listing.train)
    train, test = ImageSet(pixels[:num_train], labels[:num_train]), ImageSet(pixels[num_train:], labels[num_train:])
    return measured_data_set("folder", f"--data {root}", listing.classes, train, test, world=world)


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

    def read(image: tuple[str, Callable[[], bytes]]) -> tuple[np.ndarray, str | None]:
        name, content_of = image
        try:
            content = content_of()
            return cut_centre(decode(content), size), name if is_animated(content) else None
        except DamagedImage as damage:
            raise ValueError(f"{name} can't be read as an image ({damage}); repair or remove it") from None

    with ThreadPoolExecutor() as pool:
        pixels, animated = zip(*pool.map(read, images), strict=True)
    if (names := list(filter(None, animated))) and is_main:
        log.warning(
            "%d images are animations or have several pages, such as %s: the first picture counts", len(names), names[0]
        )
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def cut_centre(image: Image.Image, size: int) -> np.ndarray:
    """Return an image as (size, size, 3) uint8: its shorter side resized to size, and the centre of it."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
