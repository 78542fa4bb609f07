"""Images and labels of a user's own, handed over from Python: api.search_cell(data=(images, labels))."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from darts_hpc.data.sets.image_set import DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.torchvision_files import resize
from darts_hpc.distributed.world import World

SMALLEST_SIDE = 4
"""Pixels; two reduction cells quarter a side."""
LAYOUTS = "a numpy array (N, H, W, 3) or a torch tensor (N, 3, H, W)"

Arrays = tuple[Any, Any]
"""Images and labels."""


def load(root: Path, image_size: int | None, world: World | None) -> NoReturn:
    """Raise ValueError: there are no files to read them from."""
    raise ValueError(
        "--dataset arrays: images and labels are handed over from Python, as in "
        "darts_hpc.train_cell(data=(images, labels), test_data=(images, labels))"
    )


def count(root: Path, image_size: int | None) -> NoReturn:
    """Raise ValueError, as load does."""
    load(root, image_size, None)


def array_data(
    data: Arrays,
    test_data: Arrays | None = None,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    flip: bool = True,
    crop_padding: int | None = None,
) -> DataSet:
    """Return a data set of images and labels in memory, which are copied.

    Args:
        data: training images and their labels. Images are uint8: a numpy array (N, H, W, 3), or (N, H, W) for greys, or
            a torch tensor (N, 3, H, W). Labels are N whole numbers from 0.
        test_data: test images and labels; a search takes none.
        classes: names of the classes; their numbers when left out.
        image_size: side in pixels to resize to; as they are when left out.
        flip: whether a mirrored image is of the same class.
        crop_padding: pixels that a random crop may shift by; an eighth of the side when left out.

    Raises:
        ValueError: one line for whatever does not fit.
    """
    train = _image_set("data", data, image_size)
    if not len(train):
        raise ValueError("data holds no image; expected at least two")
    num_classes = int(train.labels.max()) + 1 if classes is None else len(classes)
    names = tuple(map(str, range(num_classes) if classes is None else classes))
    if isinstance(classes, str) or len(set(names)) < len(names):
        raise ValueError(f"classes {classes!r}: expected a list of names, each of them once")
    if num_classes < 2:
        raise ValueError(f"data holds {num_classes} class; expected two or more")
    side = train.images.shape[-1]
    if test_data is None:
        test = ImageSet(train.images[:0], train.labels[:0])
    else:
        test = _image_set("test_data", test_data, image_size)
        if test.images.shape[-1] != side:
            raise ValueError(
                f"test_data has images of {test.images.shape[-1]} pixels and data of {side}; give image_size, to which "
                "both are resized"
            )
    for what, part in (("data", train), ("test_data", test)):
        if len(part) and int(part.labels.max()) >= num_classes:
            raise ValueError(
                f"{what} has the label {int(part.labels.max())}; expected labels below {num_classes}, the number of "
                "classes"
            )
    return measured_data_set("arrays", "data", names, train, test, flip=flip, crop_padding=crop_padding)


def _image_set(what: str, pair: object, image_size: int | None) -> ImageSet:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{what}: expected (images, labels), and not {type(pair).__name__}")
    images, labels = _images(what, pair[0]), _labels(what, pair[1])
    if len(images) != len(labels):
        raise ValueError(f"{what} has {len(images)} images and {len(labels)} labels; expected a label per image")
    return ImageSet(resize(images, image_size), labels)


def _images(what: str, images: object) -> Tensor:
    """Return images as (N, 3, H, W) uint8."""
    if not isinstance(images, np.ndarray | Tensor):
        raise ValueError(f"{what}: images are a {type(images).__name__}; expected {LAYOUTS}")
    shape: tuple[int, ...] = tuple(images.shape)
    is_numpy = isinstance(images, np.ndarray)
    if images.dtype not in (np.dtype("uint8"), torch.uint8):
        raise ValueError(
            f"{what}: images are {str(images.dtype).removeprefix('torch.')}; expected uint8, from 0 for black to 255"
        )
    if len(shape) == 3:
        shape = (*shape, 1) if is_numpy else (shape[0], 1, *shape[1:])
    channels, other = (-1, 1) if is_numpy else (1, -1)
    if len(shape) != 4 or shape[channels] not in (1, 3):
        turned = len(shape) == 4 and shape[other] in (1, 3)
        hint = "images.transpose(0, 2, 3, 1)" if is_numpy else "images.permute(0, 3, 1, 2)"
        raise ValueError(f"{what}: images are {shape}; expected {LAYOUTS}" + (f": {hint}" if turned else ""))
    if isinstance(images, np.ndarray):
        tensor = torch.from_numpy(np.array(images, order="C")).reshape(shape).permute(0, 3, 1, 2)
    else:
        tensor = images.detach().cpu().clone().reshape(shape)
    height, width = tensor.shape[-2:]
    if height != width or height < SMALLEST_SIDE:
        raise ValueError(
            f"{what}: images are {height}x{width} pixels; expected squares, {SMALLEST_SIDE}x{SMALLEST_SIDE} or larger"
        )
    return tensor.expand(-1, 3, -1, -1).contiguous()


def _labels(what: str, labels: object) -> Tensor:
    """Return labels as (N,) int64."""
    if not isinstance(labels, Tensor):
        array = np.asarray(labels)
        if array.dtype.kind in "OUS":
            raise ValueError(
                f"{what}: labels are no numbers; expected whole numbers from 0, and their names in classes"
            )
        labels = torch.tensor(array.astype(np.int64)) if array.dtype.kind in "ui" else torch.tensor(array)
    if labels.ndim != 1:
        hint = ": labels.argmax(1)" if labels.ndim == 2 and labels.shape[1] > 1 else ""
        raise ValueError(f"{what}: labels are {tuple(labels.shape)}; expected (N,), a number per image{hint}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        kind = str(labels.dtype).removeprefix("torch.")
        raise ValueError(f"{what}: labels are {kind}; expected whole numbers from 0")
    labels = labels.detach().cpu().long()
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"{what} has the label {int(labels.min())}; expected whole numbers from 0")
    return labels
