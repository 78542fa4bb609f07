"""What the data sets that torchvision downloads and unpacks have in common."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.distributed.world import World

log = logging.getLogger(__name__)

CROP_PADDING = 4
"""Of images of 32 pixels, as in the original."""


def open_parts(name: str, parts: Sequence[dict], files: str, root: Path, world: World | None) -> list[Any]:
    """Open the parts of torchvision's data set; where files are missing one process downloads them, the others wait.

    Args:
        name: torchvision's class.
        parts: its arguments for each part.
        files: which files to place where under {root}, for the error.

    Raises:
        ValueError: one line on every rank, for files that are missing or damaged and can't be downloaded.
    """
    from torchvision import datasets  # takes a second to import, which digits and folder need not wait for

    build, opened, problem = getattr(datasets, name), [], None
    is_main = world is None or world.is_main
    try:
        if is_main:
            opened = [_open_or_download(build, part, root) for part in parts]
    except Exception as error:  # torchvision, its unpacking and its download raise all kinds
        problem = _explain(build, files, root, error)
    if world is not None:
        problem = world.broadcast_object(problem)
    try:
        if problem is None and not is_main:
            opened = [build(root, download=False, **part) for part in parts]
    except Exception as error:  # as where another node has another disk
        problem = _explain(build, files, root, error)
    if problem is not None:
        raise ValueError(problem)
    return opened


def _open_or_download(build: Any, part: dict, root: Path) -> Any:
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


def _explain(build: Any, files: str, root: Path, error: Exception) -> str:
    """Return one line that names the files at fault, what went wrong, and what to place where."""
    from torchvision.datasets.utils import check_integrity

    digests = _digests(build, root)
    faults = [
        f"{path} is {'damaged' if path.is_file() else 'missing'}"
        for path, md5 in digests.items()
        if not check_integrity(path, md5)
    ]
    what = ", ".join(faults) or f"{build.__name__} in {root} can't be read"
    if not any(path.exists() for path in digests):
        what = f"{root} holds no {build.__name__}"
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({why}); place {files.format(root=root)}, or name another --data"


def _digests(build: Any, root: Path) -> dict[Path, str]:
    """Return every file that the data set is read from, and its md5."""
    if hasattr(build, "split_list"):  # SVHN's
        return {root / name: md5 for _, name, md5 in (build.split_list[part] for part in ("train", "test"))}
    listed = [*build.train_list, *build.test_list, (build.meta["filename"], build.meta["md5"])]
    return {root / build.base_folder / name: md5 for name, md5 in listed}


def cifar_images(part: Any) -> ImageSet:
    """Return the images of torchvision's CIFAR."""
    return ImageSet(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))


def make_data_set(
    name: str,
    classes: Sequence[str],
    train: ImageSet,
    test: ImageSet,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    image_size: int | None,
) -> DataSet:
    """Return a data set with published statistics, resized to image_size and augmented as the original does CIFAR."""
    train, test = (ImageSet(resize(part.images, image_size), part.labels) for part in (train, test))
    padding = CROP_PADDING if image_size is None else max(1, CROP_PADDING * image_size // 32)
    return DataSet(
        name=name, classes=tuple(classes), train=train, test=test, mean=mean, std=std, crop_padding=padding, flip=True
    )


def resize(images: Tensor, size: int | None) -> Tensor:
    """Return uint8 images (N, 3, H, W) at another side, antialiased; as they are for None."""
    if size is None or size == images.shape[-1]:
        return images
    chunks = [F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(1024)]
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in chunks])
