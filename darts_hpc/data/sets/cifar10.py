"""CIFAR-10 (Krizhevsky, 2009): photos of 32x32 pixels in 10 classes."""

from pathlib import Path

from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.torchvision_files import cifar_images, make_data_set, open_parts
from darts_hpc.distributed.world import World

FILES = "cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a), unpacked to {root}/cifar-10-batches-py/"
MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
"""Of the original's utils.py."""


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return CIFAR-10: 50,000 training and 10,000 test images."""
    train, test = open_parts("CIFAR10", ({"train": True}, {"train": False}), FILES, root, world)
    return make_data_set(
        "cifar10", train.classes, cifar_images(train), cifar_images(test), mean=MEAN, std=STD, image_size=image_size
    )
