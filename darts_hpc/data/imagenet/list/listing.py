"""What lies under --data: an ImageFolder tree, or tar shards. Names and places only; no image is opened."""

import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from darts_hpc.data.sets.folder import SUFFIXES

PARTS = ("train", "val")
WORDS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}}
"""What a shard's name may call its part."""
MAX_INDEX = 1 << 20
"""A label beyond this is taken for a mistake."""


class Entry(NamedTuple):
    """One sample: its name, its label, and the bytes of a file (`size` None: all of it) that hold its image."""

    name: str
    label: int
    file: str
    offset: int
    size: int | None


@dataclass(frozen=True)
class Listing:
    """The classes by label, the samples of each part in the order of their ids, and the files these lie in.

    Files are relative to the root, and come with their sizes, -1 for one that can't be looked at. `folders` gives the
    time at which each folder of a tree was changed: while it stands, no file was added, removed or renamed.
    """

    classes: tuple[str, ...]
    entries: dict[str, list[Entry]]
    files: dict[str, int]
    folders: dict[str, int]


def list_data(root: Path, parts: Sequence[str] = PARTS) -> Listing:
    """List train/CLASS/* and val/CLASS/* under the root, or else its tar shards; only these parts.

    Tars beside the class folders, as they are downloaded, are no shards.

    Raises ValueError, one line, for a missing part, classes of one part only, and shards that can't be read.
    """
    if not root.is_dir():
        raise ValueError(f"--data {root} does not exist; expected a folder with train/ and val/, or with tar shards")
    shards = [] if _has_classes(root, parts) else list_shards(root, parts)
    return _list_tars(root, shards, parts) if shards else _list_tree(root, parts)


def _has_classes(root: Path, parts: Sequence[str]) -> bool:
    """Whether each part is a folder of folders."""
    return all(any(path.is_dir() and path.name[0] != "." for path in _contents(root / part)) for part in parts)


def _contents(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def list_shards(root: Path, parts: Sequence[str] = PARTS) -> list[Path]:
    """Return the tar files of these parts in the root and in its train/ and val/ folders, sorted."""
    every = sorted(path for folder in (root, *(root / part for part in PARTS)) for path in folder.glob("*.tar"))
    return [shard for shard in every if _part_of(shard, root) in parts]


def shard_files(root: Path, shards: list[Path]) -> dict[str, int]:
    """Return the size of each shard, -1 for a link to nowhere, by its path relative to the root."""
    return {shard.relative_to(root).as_posix(): _size(str(shard)) for shard in shards}


def tree_files(root: Path, parts: Sequence[str] = PARTS) -> tuple[dict[str, int], dict[str, int]]:
    """Return the size of each image file of a tree, and the time of change of each folder, by relative path."""
    files, folders = {}, {}
    for part in parts:
        for folder, names, contents in os.walk(root / part, followlinks=True):
            names[:] = sorted(name for name in names if not name.startswith("."))
            relative = os.path.relpath(folder, root)
            folders[relative] = os.stat(folder).st_mtime_ns  # noqa: PTH116 - os.walk's paths, a million times
            for name in sorted(contents):
                if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):  # noqa: PTH122
                    files[f"{relative}/{name}"] = _size(f"{folder}/{name}")
    return files, folders


def tree_folders(root: Path, folders: dict[str, int]) -> dict[str, int]:
    """Return the present time of change of the folders of a listing; -1 for one that is gone."""
    now = {}
    for folder in folders:
        try:
            now[folder] = (root / folder).stat().st_mtime_ns
        except OSError:
            now[folder] = -1
    return now


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:  # a dangling link, or one that this user may not follow
        return -1


def _list_tree(root: Path, parts: Sequence[str]) -> Listing:
    for part in parts:
        if not (root / part).is_dir():
            raise ValueError(f"--data {root} has no {part}/; expected {part}/CLASS/* there, or tar shards")
    files, folders = tree_files(root, parts)
    classes = {
        part: {path.name for path in (root / part).iterdir() if path.is_dir() and not path.name.startswith(".")}
        for part in parts
    }
    if one_sided := sorted(set.union(*classes.values()) - set.intersection(*classes.values())):
        where, lacking = PARTS if one_sided[0] in classes["train"] else reversed(PARTS)
        raise ValueError(
            f"class {one_sided[0]!r} is in {root / where} and not in {root / lacking}; both need the same classes"
        )
    names = sorted(classes[parts[0]])
    if len(names) < 2:
        raise ValueError(f"{root / parts[0]} holds {len(names)} classes; expected two or more folders")
    labels = {name: label for label, name in enumerate(names)}
    entries: dict[str, list[Entry]] = {part: [] for part in PARTS}
    for file in sorted(files):
        part, _, name = file.partition("/")
        group, _, rest = name.partition("/")
        if rest:  # not a stray image beside the class folders
            entries[part].append(Entry(name, labels[group], file, 0, None))
    for part in parts:
        present = {entry.label for entry in entries[part]}
        if lacking := [name for name, label in labels.items() if label not in present]:
            raise ValueError(f"{root / part / lacking[0]} holds no image; fill it, or remove it from both parts")
    return Listing(tuple(names), entries, files, folders)


def _part_of(shard: Path, root: Path) -> str:
    """Tell by the words of its name, or else by its folder: train/interval-0.tar is of train."""
    for text in (shard.name, shard.relative_to(root).parent.as_posix()):
        words = re.findall(r"[a-z]+", text.lower())
        parts = [part for part, names in WORDS.items() if not names.isdisjoint(words)]
        if parts:
            break
    if len(parts) != 1:
        raise ValueError(f"{shard}: expected train or val in its name, to tell which part it belongs to")
    return parts[0]


def _list_tars(root: Path, shards: list[Path], parts: Sequence[str]) -> Listing:
    entries: dict[str, list[Entry]] = {part: [] for part in PARTS}
    for shard in shards:
        entries[_part_of(shard, root)] += _tar_entries(shard, shard.relative_to(root).as_posix())
    for part in parts:
        if not entries[part]:
            raise ValueError(f"--data {root} has tar shards, but none with {part} in its name that holds an image")
        entries[part].sort()  # by key, whatever shard it lies in: the order in which packing numbered them
    labels = {part: {entry.label for entry in entries[part]} for part in parts}
    if one_sided := sorted(set.union(*labels.values()) - set.intersection(*labels.values())):
        where, lacking = PARTS if one_sided[0] in labels["train"] else reversed(PARTS)
        raise ValueError(
            f"class {one_sided[0]} is in the {where} shards of {root} and not in the {lacking} shards; both need it"
        )
    return Listing(_class_names(root, max(labels[parts[0]]) + 1), entries, shard_files(root, shards), {})


def _class_names(root: Path, num_classes: int) -> tuple[str, ...]:
    """Read classes.txt, a name a line, or else number the classes."""
    file = root / "classes.txt"
    if not file.is_file():
        return tuple(str(label) for label in range(num_classes))
    try:
        names = file.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{file} can't be read ({error}); expected the classes' names in UTF-8, one a line") from None
    if len(names) < num_classes:
        raise ValueError(f"{file} names {len(names)} classes; the shards' labels go up to {num_classes - 1}")
    return tuple(names)


def _tar_entries(shard: Path, relative: str) -> Iterator[Entry]:
    """Yield the samples of a webdataset-style tar: KEY.jpg (or another image) and KEY.cls, the label as a number.

    Of what else a key has, such as KEY.json or the mask KEY.seg.png, nothing is read.
    """
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if extension == "cls":
                    _refuse_second(labels, key, "label (.cls)", shard)
                    labels[key] = _label(os.pread(file.fileno(), min(member.size, 32), member.offset_data), shard, key)
                elif f".{extension.lower()}" in SUFFIXES:
                    _refuse_second(images, key, "image", shard)
                    images[key] = member
            end = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{shard} can't be read as a tar ({error}); copy or pack it again") from None
    if end.strip(b"\0"):  # tarfile stops in silence there
        raise ValueError(f"{shard} is damaged at byte {tar.offset}: no tar header; copy or pack it again")
    if missing := sorted(images.keys() ^ labels.keys()):
        has, lacks = ("an image", "label (.cls)") if missing[0] in images else ("a label", "image")
        raise ValueError(
            f"{shard}: {missing[0]} has {has} and no {lacks}; expected KEY.jpg and KEY.cls for each sample"
        )
    for key, member in images.items():
        yield Entry(key, labels[key], relative, member.offset_data, member.size)


def _refuse_second(found: Mapping[str, object], key: str, what: str, shard: Path) -> None:
    if key in found:
        raise ValueError(f"{shard}: {key} has a second {what}; give each sample a key of its own, and pack again")


def _label(text: bytes, shard: Path, key: str) -> int:
    label = text.strip()
    if not label.isdigit() or int(label) >= MAX_INDEX:
        raise ValueError(f"{shard}: {key}.cls holds {text!r}; expected the number of the class, counted from 0")
    return int(label)
