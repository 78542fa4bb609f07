"""Any images in one folder per class: train/CLASS/* and test/CLASS/* (or val/CLASS/*)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from darts_hpc.data.rgb import to_rgb
from darts_hpc.data.sets.image_set import DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return the images under `root`, each resized by its shorter side and cropped to the centre at image_size.

    All of them are held in memory. Raises ValueError for a missing part, a class in one part and not in the other, a
    class without images, an image that can't be read, and training images that are all equal.
    """
    if image_size is None:
        raise ValueError("--dataset folder needs --image_size, the side in pixels that images are resized to")
    train_folder, test_folder, classes = _parts(root)
    train, test = (_read(folder, classes, image_size) for folder in (train_folder, test_folder))
    return measured_data_set("folder", f"--data {root}", classes, train, test, world=world)


def count(root: Path, image_size: int | None) -> DatasetFacts:
    """Count images and classes under `root` without opening an image. Raises ValueError as load does."""
    train_folder, test_folder, classes = _parts(root)
    num_train, num_test = (sum(len(_files(part / name)) for name in classes) for part in (train_folder, test_folder))
    return DatasetFacts(num_train, num_test, image_size or 0, len(classes))


def _parts(root: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """Return the folder of the training images, that of the test images, and the classes, which both have."""
    train_folder, test_folder = root / "train", next((p for p in (root / "test", root / "val") if p.is_dir()), None)
    if not train_folder.is_dir() or test_folder is None:
        raise ValueError(
            f"--data {root} needs train/CLASS/* and test/CLASS/* (or val/CLASS/*) with one folder per class"
        )
    classes = _classes(train_folder)
    if classes != _classes(test_folder):
        name = sorted(set(classes) ^ set(_classes(test_folder)))[0]
        raise ValueError(
            f"class {name!r} is in one of {train_folder} and {test_folder} only; both need the same classes"
        )
    if len(classes) < 2:
        raise ValueError(f"{train_folder} holds {len(classes)} classes; two or more folders of images are needed")
    return train_folder, test_folder, classes


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _read(folder: Path, classes: tuple[str, ...], size: int) -> ImageSet:
    files, labels = [], []
    for label, name in enumerate(classes):
        found = _files(folder / name)
        files += found
        labels += [label] * len(found)
    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(lambda path: decode(path, path, size), files)))  # (N, H, W, 3)
    return ImageSet(torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels))


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def decode(file: Path | BinaryIO, name: object, size: int) -> np.ndarray:
    """Return an image as (size, size, 3) uint8: its shorter side resized to size, and the centre of it.

    Raises ValueError with its name where it can't be read.
    """
    try:
        with Image.open(file) as image:
            image = to_rgb(image)
            scale = size / min(image.size)
            width, height = (max(size, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - size) // 2, (height - size) // 2
            return np.asarray(image.crop((left, top, left + size, top + size)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} can't be read as an image ({error}); repair or remove it") from None
