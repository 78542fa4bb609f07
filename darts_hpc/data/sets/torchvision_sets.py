"""CIFAR-10, CIFAR-100 and SVHN through torchvision, in memory."""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.distributed.world import World

log = logging.getLogger(__name__)

CROP_PADDING = 4
PLACES = {  # what to place where, and the archive's md5
    "CIFAR10": "cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a), unpacked to {root}/cifar-10-batches-py/",
    "CIFAR100": "cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85), unpacked to {root}/cifar-100-python/",
    "SVHN": "train_32x32.mat (md5 e26dedcc434d2e4c54c9b2d4a06d8373) and test_32x32.mat "
    "(md5 eb5a983be6a315427106f1b164d9cef3) in {root}/",
}


def load_cifar10(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return CIFAR-10: 50,000 training and 10,000 test images in 10 classes."""
    train, test = _open("CIFAR10", ({"train": True}, {"train": False}), root, world)
    # Statistics of the original, utils.py.
    mean, std = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    return _data_set("cifar10", tuple(train.classes), _cifar(train), _cifar(test), mean, std, image_size)


def load_cifar100(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return CIFAR-100: 50,000 training and 10,000 test images in 100 classes."""
    train, test = _open("CIFAR100", ({"train": True}, {"train": False}), root, world)
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _data_set("cifar100", tuple(train.classes), _cifar(train), _cifar(test), mean, std, image_size)


def load_svhn(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return SVHN: 73,257 training and 26,032 test images of house numbers; the extra part is not used.

    Cropped and flipped like CIFAR, for comparison with the published S1-S4 numbers.
    """
    train, test = _open("SVHN", ({"split": "train"}, {"split": "test"}), root, world)
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    return _data_set("svhn", tuple("0123456789"), _svhn(train), _svhn(test), mean, std, image_size)


def _open(name: str, parts: tuple[dict, ...], root: Path, world: World | None) -> list:
    """Open the parts; where files are missing one process downloads them while the others wait."""
    from torchvision import datasets  # takes a second to import, which digits and folder need not wait for

    build, opened, problem = getattr(datasets, name), [], None
    is_main = world is None or world.is_main
    try:
        if is_main:
            opened = [_open_or_download(build, part, root) for part in parts]
    except Exception as error:  # torchvision, its unpacking and its download raise all kinds
        problem = _explain(build, root, error)
    if world is not None:
        problem = world.broadcast_object(problem)
    try:
        if problem is None and not is_main:
            opened = [build(root, download=False, **part) for part in parts]
    except Exception as error:  # as where another node has another disk
        problem = _explain(build, root, error)
    if problem is not None:
        raise ValueError(problem)
    return opened


def _open_or_download(build, part: dict, root: Path):
    try:
        return build(root, download=False, **part)
    except RuntimeError:
        log.info("downloading %s to %s", build.__name__, root)
    try:
        return build(root, download=True, **part)
    except Exception:
        if root.is_dir() and not any(root.iterdir()):  # torchvision made it
            root.rmdir()
        raise


def _explain(build, root: Path, error: Exception) -> str:
    """Return one line that names the files at fault, what went wrong, and what to place where."""
    from torchvision.datasets.utils import check_integrity

    files = _files(build, root)
    faults = [
        f"{path} is {'damaged' if path.is_file() else 'missing'}"
        for path, md5 in files.items()
        if not check_integrity(path, md5)
    ]
    what = ", ".join(faults) or f"{build.__name__} in {root} can't be read"
    if not any(path.exists() for path in files):
        what = f"{root} holds no {build.__name__}"
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({why}); place {PLACES[build.__name__].format(root=root)}, or name another --data"


def _files(build, root: Path) -> dict[Path, str]:
    """Return every file that the data set is read from, and its md5."""
    if build.__name__ == "SVHN":
        return {root / name: md5 for _, name, md5 in (build.split_list[part] for part in ("train", "test"))}
    listed = [*build.train_list, *build.test_list, (build.meta["filename"], build.meta["md5"])]
    return {root / build.base_folder / name: md5 for name, md5 in listed}


def _cifar(part) -> ImageSet:
    return ImageSet(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))


def _svhn(part) -> ImageSet:
    return ImageSet(torch.from_numpy(np.ascontiguousarray(part.data)), torch.from_numpy(part.labels).long())


def _data_set(name, classes, train: ImageSet, test: ImageSet, mean, std, image_size: int | None) -> DataSet:
    train, test = (ImageSet(resize(part.images, image_size), part.labels) for part in (train, test))
    padding = CROP_PADDING if image_size is None else max(1, CROP_PADDING * image_size // 32)
    return DataSet(
        name=name, classes=classes, train=train, test=test, mean=mean, std=std, crop_padding=padding, flip=True
    )


def resize(images: Tensor, size: int | None) -> Tensor:
    """Return uint8 images (N, 3, H, W) at another side, antialiased; as they are for None."""
    if size is None or size == images.shape[-1]:
        return images
    chunks = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(1024)]
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in chunks])
