"""The classes of validation images that lie in no class folders, as a file names them."""

from collections.abc import Sequence
from pathlib import Path

from darts_hpc.user_files import is_file, read_text

NAMES = ("val_labels.txt", "LOC_val_solution.csv")
KAGGLES_DEPTH = 3
"""Kaggle's file lies so many folders above train/ and val/, beside ILSVRC/Data/CLS-LOC."""


def find_val_labels(root: Path) -> Path | None:
    """Return the file that names the classes of the images in val/; None where there is none."""
    folders = [root, root / "val"]
    if root.resolve().parts[-KAGGLES_DEPTH:] == ("ILSVRC", "Data", "CLS-LOC"):
        folders.append(root.resolve().parents[KAGGLES_DEPTH - 1])
    return next((folder / name for folder in folders for name in NAMES if is_file(folder / name)), None)


def read_val_labels(path: Path, images: Sequence[str], classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the classes, and the label of each image (by path).

    Each line has an image's name, with or without suffix, and its class, a folder's name or the number of it from 0, as
    'ILSVRC2012_val_00000001.JPEG n01751748'. Kaggle's has commas and boxes too. classes: those of train; without any,
    they are the names in the file, sorted.

    Raises ValueError, one line, for another form, an image that has no line or is of two classes, and a class that
    train has not.
    """
    named = _read(path)
    named.pop("ImageId", None)
    stems = [Path(image).stem for image in images]
    if lacking := [image for image, stem in zip(images, stems, strict=True) if stem not in named]:
        raise ValueError(f"{path} has no line for {lacking[0]} ({len(lacking)} of {len(images)} images lack theirs)")
    names = list(classes) or sorted(set(named.values()), key=lambda name: (len(name) * name.isdigit(), name))
    labels = {str(label): label for label in range(len(names))} | {name: label for label, name in enumerate(names)}
    if strange := [stem for stem in stems if named[stem] not in labels]:
        raise ValueError(
            f"{path}: {strange[0]} is of class {named[strange[0]]!r}, which train has not; expected a folder's name, "
            f"such as {names[0]!r}, or a number from 0 to {len(names) - 1}"
        )
    return names, [labels[named[stem]] for stem in stems]


def _read(path: Path) -> dict[str, str]:
    """Return each image's class by its stem."""
    named: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        stem, name = _parsed(path, number, line)
        first = lines.setdefault(stem, number)
        if named.setdefault(stem, name) != name:
            raise ValueError(
                f"{path}: {stem} is of class {named[stem]!r} in line {first} and of {name!r} in line {number}; "
                "expected one class per image: remove one of the lines"
            )
    return named


def _parsed(path: Path, number: int, line: str) -> tuple[str, str]:
    """Return an image's stem and its class."""
    words = line.replace(",", " ").split()
    if len(words) < 2:
        raise ValueError(
            f"{path} line {number} is {line.strip()[:60]!r}; expected an image's name and its class, such as "
            "'ILSVRC2012_val_00000001.JPEG n01751748'"
        )
    return Path(words[0]).stem, words[1]
