"""What lies under --data: an ImageFolder tree, or tar shards. Names and places only; no image is opened."""

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from darts_hpc.data.class_folders import Tree, file_size, is_junk, label_images, list_tree, remarks
from darts_hpc.data.imagenet.list.layouts import compressed_shards, explain_layout
from darts_hpc.data.imagenet.list.val_labels import find_val_labels, read_val_labels
from darts_hpc.data.tar_files import IMAGE, TarFile, list_tar
from darts_hpc.user_files import exists, is_folder, list_folder, read_text, shown

log = logging.getLogger(__name__)

PARTS = ("train", "val")
WORDS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}}
"""What a shard's name may call its part."""
CLASSES = "classes.txt"
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

    The images of val/ may lie in no class folders where a file that names their classes is there. Tars beside the class
    folders, as they are downloaded, are no shards.

    Raises ValueError, one line, for a missing part, classes of one part only, and shards that can't be read.
    """
    if not is_folder(root):
        raise ValueError(no_folder(root))
    tree = list_tree(root, parts)
    is_flat = "val" in parts and not tree.classes("val") and bool(tree.beside_classes("val"))
    labels_file = find_val_labels(root) if is_flat else None
    if all(tree.classes(part) for part in parts if part != "val" or labels_file is None):
        return _list_tree(root, parts, tree, labels_file)
    if (problem := explain_layout(root, parts, tree)) is not None:
        raise ValueError(problem)
    shards = list_shards(root, parts)
    if compressed := compressed_shards(root, parts):
        raise ValueError(f"{compressed[0]} is compressed; images are read from where they lie in a tar: decompress it")
    return _list_tars(root, shards, parts) if shards else _list_tree(root, parts, tree, None)


def no_folder(root: Path) -> str:
    """Return what is wrong with a root that is no folder."""
    what = "is no folder" if exists(root) else "does not exist"
    return f"--data {root} {what}; expected a folder with train/ and val/, or with tar shards"


def list_shards(root: Path, parts: Sequence[str] = PARTS) -> list[Path]:
    """Return the tar files of these parts in the root and in its train/ and val/ folders, sorted."""
    every = sorted(path for folder in (root, *(root / part for part in PARTS)) for path in list_folder(folder, "*.tar"))
    return [shard for shard in every if not is_junk(shard.name) and _part_of(shard, root) in parts]


def shard_files(root: Path, shards: list[Path]) -> dict[str, int]:
    """Return the size of each shard, -1 for a link to nowhere, by its path relative to the root."""
    return {shard.relative_to(root).as_posix(): file_size(str(shard)) for shard in shards}


def tree_folders(root: Path, folders: dict[str, int]) -> dict[str, int]:
    """Return the present time of change of the folders of a listing; -1 for one that is gone."""
    now = {}
    for folder in folders:
        try:
            now[folder] = (root / folder).stat().st_mtime_ns
        except OSError:
            now[folder] = -1
    return now


def _list_tree(root: Path, parts: Sequence[str], tree: Tree, labels_file: Path | None) -> Listing:
    """List the class folders. labels_file: what names the classes of the images in val/, where there are no such."""
    for part in parts:
        if part not in tree.folders:
            raise ValueError(f"--data {root} has no {part}/; expected {part}/CLASS/* there, or tar shards")
    in_folders = [part for part in parts if part != "val" or labels_file is None]
    names, images = label_images(root, in_folders, tree) if in_folders else ((), {})
    if labels_file is not None:
        files = tree.beside_classes("val")
        names, labels = read_val_labels(labels_file, files, names)
        images["val"] = list(zip(files, labels, strict=True))
        check_every_class(names, labels, f"the images in {root / 'val'}, by {labels_file}")
        log.info("%s: the classes of the images in val/ are those of %s", root, labels_file)
    if said := remarks(tree, in_folders):
        log.warning("%s: %s", root, said)
    entries: dict[str, list[Entry]] = {part: [] for part in PARTS}
    for part in parts:
        entries[part] = [Entry(file.partition("/")[2], label, file, 0, None) for file, label in images[part]]
    return Listing(tuple(names), entries, tree.files, tree.folders)


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
    classes = _class_names(root, max(labels[parts[0]]) + 1)
    check_every_class(classes, labels[parts[0]], f"the {parts[0]} shards of {root}")
    return Listing(classes, entries, shard_files(root, shards), {})


def check_every_class(classes: Sequence[str], labels: Collection[int], where: str) -> None:
    """Refuse labels that leave out a class, as an empty class folder is refused. Raises ValueError, one line."""
    present = set(labels)
    if lacking := [label for label in range(len(classes)) if label not in present]:
        raise ValueError(
            f"{where} hold no image of class {shown(classes[lacking[0]])!r} (label {lacking[0]} of 0 to "
            f"{len(classes) - 1}); labels count from 0, without holes"
        )


def _class_names(root: Path, num_classes: int) -> tuple[str, ...]:
    """Read classes.txt, a name a line, or else number the classes."""
    file = root / CLASSES
    if not exists(file):
        return tuple(str(label) for label in range(num_classes))
    try:
        names = read_text(file).splitlines()
    except ValueError as error:
        raise ValueError(f"{error}; {CLASSES} holds the classes' names, one a line") from None
    while names and not names[-1].strip():
        names.pop()
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name.strip() or "\0" in name:
            what = "holds a NUL" if name.strip() else "is blank"
            raise ValueError(f"{file} line {number} {what}; expected the classes' names, one a line, by their labels")
        if (first := lines.setdefault(name, number)) != number:
            raise ValueError(
                f"{file} names {shown(name)!r} in line {first} and in line {number}; make the names differ"
            )
    if len(names) < num_classes:
        raise ValueError(f"{file} names {len(names)} classes; the shards' labels go up to {num_classes - 1}")
    return tuple(names)


def _tar_entries(shard: Path, relative: str) -> Iterator[Entry]:
    """Yield the samples of a webdataset-style tar: KEY.jpg (or another image) and KEY.cls, the label as a number.

    Of what else a key has, such as KEY.json or the mask KEY.seg.png, nothing is read.
    """
    images: dict[str, TarFile] = {}
    labels: dict[str, int] = {}
    for file in list_tar(shard, ("cls",)):
        is_image = file.kind == IMAGE
        if file.key in (images if is_image else labels):
            what = "image" if is_image else "label (.cls)"
            raise ValueError(
                f"{shard}: {shown(file.key)!r} has a second {what}; give each sample a key of its own, and pack again"
            )
        if is_image:
            images[file.key] = file
        else:
            labels[file.key] = _label(file, shard)
    if missing := sorted(images.keys() ^ labels.keys()):
        has, lacks = ("an image", "label (.cls)") if missing[0] in images else ("a label", "image")
        raise ValueError(
            f"{shard}: {shown(missing[0])!r} has {has} and no {lacks}; expected KEY.jpg and KEY.cls for each sample, "
            "the label being the number of the class, counted from 0 (labels in a KEY.json are not read here)"
        )
    for key, image in images.items():
        yield Entry(key, labels[key], relative, image.offset, image.size)


def _label(file: TarFile, shard: Path) -> int:
    label = file.text.strip()
    if not label.isdigit() or len(label) > 9 or int(label) >= MAX_INDEX:
        raise ValueError(
            f"{shard}: {shown(file.key) + '.cls'!r} holds {file.text[:32]!r}; expected the number of the class, "
            "counted from 0"
        )
    return int(label)
