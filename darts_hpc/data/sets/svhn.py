"""SVHN (Netzer and others, 2011): digits of house numbers, 32x32 pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.data.sets.torchvision_files import make_data_set, open_parts
from darts_hpc.distributed.world import World

FILES = (
    "train_32x32.mat (md5 e26dedcc434d2e4c54c9b2d4a06d8373) and test_32x32.mat (md5 eb5a983be6a315427106f1b164d9cef3) "
    "in {root}/"
)
MEAN, STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return SVHN: 73,257 training and 26,032 test images; the extra part is not used.

    Cropped and flipped like CIFAR, for comparison with the published S1-S4 numbers.
    """
    train, test = open_parts("SVHN", ({"split": "train"}, {"split": "test"}), FILES, root, world)
    return make_data_set("svhn", "0123456789", _images(train), _images(test), mean=MEAN, std=STD, image_size=image_size)


def _images(part: Any) -> ImageSet:
    return ImageSet(torch.from_numpy(np.ascontiguousarray(part.data)), torch.from_numpy(part.labels).long())
