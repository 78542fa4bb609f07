"""Images in webdataset tars: train/*.tar and test/*.tar (or val/*.tar), a sample being KEY.jpg with its label.

The label is KEY.cls, a number, or stands in KEY.json, as img2dataset writes it. Names in a tar are keys and no paths:
nothing is unpacked.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from darts_hpc.data.class_folders import is_junk
from darts_hpc.data.sets.folder import read_images
from darts_hpc.data.sets.image_set import DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.data.stored_bytes import read_bytes
from darts_hpc.data.tar_files import IMAGE, TarFile, list_tar
from darts_hpc.distributed.world import World
from darts_hpc.user_files import list_folder

PARTS = {"train": ("train",), "test": ("test", "val")}
"""What the folder of a part may be called, or a word in its tars' names."""
LABEL_KEYS = ("label", "cls", "class", "target")
"""Where a KEY.json has its label: the first of them that it has."""
MAX_LABEL = 1 << 16
"""A number beyond it is taken for a mistake."""

Label = int | str


class Sample(NamedTuple):
    """One sample: its label, and the bytes of a tar that hold its image."""

    key: str
    label: Label
    tar: Path
    offset: int
    size: int


def load(root: Path, image_size: int | None, world: World | None) -> DataSet:
    """Return the images of the tars under `root`, each resized by its shorter side and cropped to the centre.

    All of them are held in memory. Raises ValueError, one line, for a missing part, a tar that is damaged, a sample
    without an image or a label, labels that don't fit together, and an image that can't be read.
    """
    if image_size is None:
        raise ValueError("--dataset webdataset needs --image_size, the side in pixels that images are resized to")
    train, test = (_samples(root, part) for part in PARTS)
    classes = _classes(root, train, test)
    is_main = world is None or world.is_main
    train_set, test_set = (_read(samples, classes, image_size, is_main) for samples in (train, test))
    return measured_data_set("webdataset", f"--data {root}", classes, train_set, test_set, world=world)


def count(root: Path, image_size: int | None) -> DatasetFacts:
    """Count samples and classes under `root` without opening an image. Raises ValueError as load does."""
    train, test = (_samples(root, part) for part in PARTS)
    return DatasetFacts(len(train), len(test), image_size or 0, len(_classes(root, train, test)))


def _samples(root: Path, part: str) -> list[Sample]:
    for name in PARTS[part]:
        tars = list_folder(root / name, "*.tar") or [
            path for path in list_folder(root, "*.tar") if name in re.findall(r"[a-z]+", path.name.lower())
        ]
        tars = [tar for tar in tars if not is_junk(tar.name)]
        if tars:
            samples = [sample for tar in tars for sample in _list(tar)]
            if not samples:
                raise ValueError(f"{tars[0].parent} has {len(tars)} {part} tars, and no image in them")
            return samples
    raise ValueError(
        f"--data {root} has no {part} tars; expected train/*.tar and test/*.tar (or val/*.tar), not compressed"
    )


def _list(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar in its order."""
    images: dict[str, TarFile] = {}
    labels: dict[tuple[str, str], Label | None] = {}
    for file in list_tar(path, ("cls", "json")):
        is_image = file.kind == IMAGE
        if (is_image and file.key in images) or (file.key, file.kind) in labels:
            raise ValueError(
                f"{path}: the key {file.key!r} has two files .{'jpg' if is_image else file.kind}; expected a key per "
                "sample"
            )
        if is_image:
            images[file.key] = file
        else:
            labels[file.key, file.kind] = _label(file.text, file.kind, f"{path}: {file.key + '.' + file.kind!r}")
    for key, image in images.items():
        label = next((found for form in ("cls", "json") if (found := labels.get((key, form))) is not None), None)
        if label is None:
            raise ValueError(
                f"{path}: {key!r} has no label; expected its .cls, or its .json with one of the keys "
                f"{', '.join(LABEL_KEYS)}"
            )
        yield Sample(key, label, path, image.offset, image.size)
    if alone := [key for key, form in labels if form == "cls" and key not in images]:
        raise ValueError(f"{path}: {alone[0]!r} has a label and no image; expected its .jpg or the like")


def _label(text: bytes, form: str, name: str) -> Label | None:
    """Return the label that a .cls or .json holds; None for a .json without one."""
    label: object = text.strip().decode("ascii", "replace")
    if form == "json":
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} holds no JSON; pack the tar again") from None
        label = next((facts[key] for key in LABEL_KEYS if key in facts), None) if isinstance(facts, dict) else None
        if label is None:
            return None
    if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) < 10:
        label = int(label)
    number = isinstance(label, int) and not isinstance(label, bool) and 0 <= label < MAX_LABEL
    if number or (isinstance(label, str) and form == "json" and label):
        return label  # pyright: ignore[reportReturnType]
    expected = "the number of the class, counted from 0" + (", or its name" if form == "json" else "")
    raise ValueError(f"{name}: the label is {str(label)[:40]!r}; expected {expected}")


def _classes(root: Path, train: Sequence[Sample], test: Sequence[Sample]) -> tuple[str, ...]:
    """Return the classes' names: those in the labels, sorted, or the numbers."""
    labels = {sample.label for sample in train}
    kinds = {type(sample.label) for sample in (*train, *test)}
    if len(kinds) > 1:
        raise ValueError(f"--data {root}: some labels are numbers and some are names; expected one of them")
    if strange := {sample.label for sample in test} - labels:
        raise ValueError(f"--data {root}: class {min(strange)!r} is in the test tars and not in the train tars")
    names = range(max(labels) + 1) if kinds == {int} else sorted(labels)  # pyright: ignore
    if len(names) < 2:
        raise ValueError(f"--data {root} holds {len(names)} class; expected two or more")
    if lacking := [name for name in names if name not in labels]:
        raise ValueError(
            f"--data {root}: class {str(lacking[0])!r} has no training image, and labels go up to {names[-1]}; they "
            "count from 0, without holes"
        )
    return tuple(map(str, names))


def _read(samples: Sequence[Sample], classes: Sequence[str], size: int, is_main: bool) -> ImageSet:
    numbers = {name: number for number, name in enumerate(classes)}
    images = [
        (f"{tar}: {key!r}", lambda tar=tar, offset=offset, num_bytes=num_bytes: read_bytes(tar, offset, num_bytes))
        for key, _, tar, offset, num_bytes in samples
    ]
    labels = torch.tensor([numbers[str(sample.label)] for sample in samples])
    return ImageSet(read_images(images, size, is_main), labels)
