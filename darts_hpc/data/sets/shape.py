"""How large a data set is, without loading it."""

from pathlib import Path
from typing import NamedTuple

from darts_hpc.data.sets.folder import count_images


class DataShape(NamedTuple):
    """Training and test images together, the side of the square images in pixels, and the classes."""

    num_images: int
    image_size: int
    num_classes: int


# name -> shape as load_dataset gives it by default
SHAPES = {
    "cifar10": DataShape(60_000, 32, 10),
    "cifar100": DataShape(60_000, 32, 100),
    "svhn": DataShape(99_289, 32, 10),
    "digits": DataShape(1_797, 16, 10),
}


def dataset_shape(name: str, root: Path, image_size: int | None = None) -> DataShape:
    """Return what load_dataset would give; only a folder's files are counted. Raises ValueError as it does."""
    if name == "folder":
        num_images, num_classes = count_images(root)
        return DataShape(num_images, image_size or 0, num_classes)
    shape = SHAPES[name]
    return shape._replace(image_size=image_size or shape.image_size)
