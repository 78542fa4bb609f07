"""The 1,797 handwritten digits inside the package: a small real data set for the demo and the tests."""

import zlib
from importlib import resources
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.data.sets.image_set import DataSet, ImageSet, channel_statistics
from darts_hpc.data.sets.table import DATASETS
from darts_hpc.distributed.world import World

NATIVE_SIZE, LEVELS = 8, 16


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return the digits, scaled up from 8x8 with 17 grey levels to image_size with three equal channels.

    1,437 images train and 360 test: a fixed stratified split that is stored with them. `root` is not used.
    Raises ValueError when the package's file is damaged.
    """
    file = resources.files("darts_hpc.data.sets").joinpath("digits.npz")
    try:
        with file.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            pixels, labels, test = (torch.from_numpy(stored[name]) for name in ("images", "labels", "test"))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is missing or damaged ({error}); install darts_hpc again") from None
    size = image_size or DATASETS["digits"].image_size
    images, labels = _enlarge(pixels, size), labels.long()
    mean, std = channel_statistics(images[~test])
    return DataSet(
        name="digits",
        classes=tuple("0123456789"),
        train=ImageSet(images[~test], labels[~test]),
        test=ImageSet(images[test], labels[test]),
        mean=mean,
        std=std,
        crop_padding=max(1, size // NATIVE_SIZE),
        flip=False,  # a mirrored 2 is no 2
    )


def _enlarge(pixels: Tensor, size: int) -> Tensor:
    scaled = pixels[:, None].double() * (255 / LEVELS)
    enlarged = F.interpolate(scaled, size=(size, size), mode="bilinear", antialias=size < NATIVE_SIZE)
    return enlarged.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
