"""Images in webdataset tars: train/*.tar and test/*.tar (or val/*.tar), a sample being KEY.jpg with its label.

The label is KEY.cls, a number, or stands in KEY.json, as img2dataset writes it. Names in a tar are keys and no paths:
nothing is unpacked, and links are passed over.
"""

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from darts_hpc.data.sets.folder import SUFFIXES, decode
from darts_hpc.data.sets.image_set import DataSet, ImageSet, measured_data_set
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World

PARTS = {"train": ("train",), "test": ("test", "val")}
"""What the folder of a part may be called, or a word in its tars' names."""
LABEL_KEYS = ("label", "cls", "class", "target")
"""Where a KEY.json has its label: the first of them that it has."""
MAX_LABEL = 1 << 16
"""A number beyond it is taken for a mistake."""
MAX_JSON = 1 << 20
"""Bytes; a larger one is not read."""

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
    train_set, test_set = (_read(samples, classes, image_size) for samples in (train, test))
    return measured_data_set("webdataset", f"--data {root}", classes, train_set, test_set, world=world)


def count(root: Path, image_size: int | None) -> DatasetFacts:
    """Count samples and classes under `root` without opening an image. Raises ValueError as load does."""
    train, test = (_samples(root, part) for part in PARTS)
    return DatasetFacts(len(train), len(test), image_size or 0, len(_classes(root, train, test)))


def _samples(root: Path, part: str) -> list[Sample]:
    for name in PARTS[part]:
        tars = sorted((root / name).glob("*.tar")) or sorted(
            path for path in root.glob("*.tar") if name in re.findall(r"[a-z]+", path.name.lower())
        )
        if tars:
            samples = [sample for tar in tars for sample in _list(tar)]
            if not samples:
                raise ValueError(f"{tars[0].parent} has {len(tars)} {part} tars, and no image in them")
            return samples
    raise ValueError(f"--data {root} has no {part} tars; expected train/*.tar and test/*.tar (or val/*.tar)")


def _list(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar in its order."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[tuple[str, str], Label | None] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key, extension = f"{folder}/{stem}".removeprefix("./").removeprefix("/"), extension.lower()
                if not member.isfile() or not stem:
                    continue
                if member.issparse():
                    raise ValueError(f"{path}: {member.name!r} is sparse; expected plain files; pack the tar again")
                is_image = f".{extension}" in SUFFIXES
                if (key in images and is_image) or (key, extension) in labels:
                    raise ValueError(f"{path}: the key {key!r} has two files .{extension}; expected a key per sample")
                if is_image:
                    images[key] = member.offset_data, member.size
                elif extension in ("cls", "json"):
                    text = os.pread(file.fileno(), min(member.size, MAX_JSON), member.offset_data)
                    labels[key, extension] = _label(text, extension, f"{path}: {key + '.' + extension!r}")
            end = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} can't be read as a tar ({error}); copy or pack it again") from None
    if end.strip(b"\0"):  # tarfile stops in silence there
        raise ValueError(f"{path} is damaged at byte {tar.offset}: no tar header; copy or pack it again")
    for key, (offset, size) in images.items():
        label = next((found for form in ("cls", "json") if (found := labels.get((key, form))) is not None), None)
        if label is None:
            raise ValueError(
                f"{path}: {key!r} has no label; expected its .cls, or its .json with one of the keys "
                f"{', '.join(LABEL_KEYS)}"
            )
        yield Sample(key, label, path, offset, size)
    if alone := [key for key, extension in labels if extension == "cls" and key not in images]:
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
    return tuple(map(str, names))


def _read(samples: Sequence[Sample], classes: Sequence[str], size: int) -> ImageSet:
    numbers = {name: number for number, name in enumerate(classes)}
    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(lambda sample: _decode(sample, size), samples)))  # (N, H, W, 3)
    labels = torch.tensor([numbers[str(sample.label)] for sample in samples])
    return ImageSet(torch.from_numpy(images).permute(0, 3, 1, 2), labels)


def _decode(sample: Sample, size: int) -> np.ndarray:
    with sample.tar.open("rb") as file:
        content = os.pread(file.fileno(), sample.size, sample.offset)
    return decode(io.BytesIO(content), f"{sample.tar}: {sample.key!r}", size)
