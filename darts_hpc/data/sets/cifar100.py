"""CIFAR-100 (Krizhevsky, 2009): photos of 32x32 pixels in 100 classes."""

from pathlib import Path

from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.torchvision_files import cifar_images, make_data_set, open_parts
from darts_hpc.distributed.world import World

FILES = "cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85), unpacked to {root}/cifar-100-python/"
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return CIFAR-100: 50,000 training and 10,000 test images."""
    train, test = open_parts("CIFAR100", ({"train": True}, {"train": False}), FILES, root, world)
    return make_data_set(
        "cifar100", train.classes, cifar_images(train), cifar_images(test), mean=MEAN, std=STD, image_size=image_size
    )
