"""The one rule by which a tree of images is listed, PART/CLASS/**: which folders are classes, which files are images.

It is that of torchvision's ImageFolder: images in folders inside of a class folder are of that class. Hidden files and
folders are passed over, and those that file systems and desktops leave behind.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from darts_hpc.user_files import is_folder

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
JUNK = frozenset({
    "lost+found", "__MACOSX", "__pycache__", "@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot",
    "~snapshot", "$RECYCLE.BIN", "System Volume Information",
})  # fmt: skip
"""Folders that are no classes. Hidden ones, such as .ipynb_checkpoints, aren't either."""


@dataclass(frozen=True)
class Tree:
    """What lies in the parts of a tree, by path relative to its root.

    files: the images' sizes, -1 for one that can't be looked at, such as a link to nowhere. folders: the time at which
    each was changed, in ns: while it stands, no file was added, removed or renamed. others: files that are no images by
    their names.
    """

    files: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def classes(self, part: str) -> list[str]:
        """Return the names of a part's class folders, sorted."""
        return sorted(path.split("/")[1] for path in _below(part, self.folders) if path.count("/") == 1)

    def images(self, part: str) -> list[str]:
        """Return the paths of a part's images that lie in a class folder, sorted."""
        return sorted(path for path in _below(part, self.files) if path.count("/") > 1)

    def beside_classes(self, part: str) -> list[str]:
        """Return the paths of the images that lie beside the class folders, which are of no class; sorted."""
        return sorted(path for path in _below(part, self.files) if path.count("/") == 1)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is passed over in silence."""
    return name.startswith(".") or name in JUNK


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def list_tree(root: Path, parts: Sequence[str]) -> Tree:
    """List the images of some parts of a tree; a part that is not there has none.

    Within a class no folder is gone into twice, nor one that it lies in, whatever links lead there.

    Raises ValueError, one line, for a folder that this user may not read.
    """
    tree = Tree()
    for part in parts:
        if not is_folder(root / part):
            continue
        outside = {_identity(root, "."), _identity(root, part)}
        for name in _add_folder(tree, root, part):
            seen, waiting = set(outside), [f"{part}/{name}"]
            while waiting:
                folder = waiting.pop()
                if (identity := _identity(root, folder)) not in seen:
                    seen.add(identity)
                    waiting += [f"{folder}/{inner}" for inner in reversed(_add_folder(tree, root, folder))]
    return tree


def label_images(
    root: Path, parts: Sequence[str], tree: Tree
) -> tuple[tuple[str, ...], dict[str, list[tuple[str, int]]]]:
    """Return the classes of a tree, sorted, and the path and label of each part's images.

    Raises ValueError, one line, for a class of one part only, or without an image, a part without class folders, fewer
    than two classes, and a name that no list of classes could hold.
    """
    classes = {part: tree.classes(part) for part in parts}
    for part in parts:
        if not classes[part] and (images := tree.beside_classes(part)):
            raise ValueError(
                f"{root / part} holds {len(images)} images, such as {Path(images[0]).name}, and no class folders; "
                f"expected {part}/CLASS/*"
            )
        if foreign := [name for name in classes[part] if not _is_one_line(name)]:
            raise ValueError(
                f"{root / part} holds the class {foreign[0]!a}; expected a name in UTF-8, on one line: rename it"
            )
    for one, other in ((parts[0], parts[-1]), (parts[-1], parts[0])):
        if one_sided := sorted(set(classes[one]) - set(classes[other])):
            raise ValueError(
                f"class {one_sided[0]!r} is in {root / one} and not in {root / other}; both need the same classes"
            )
    names = classes[parts[0]]
    if len(names) < 2:
        there = _kinds([*_below(parts[0], tree.others)])
        raise ValueError(
            f"{root / parts[0]} holds {len(names)} classes{there and f', and {there}'}; expected two or more folders "
            "of images"
        )
    labels = {name: label for label, name in enumerate(names)}
    images = {part: [(path, labels[path.split("/", 2)[1]]) for path in tree.images(part)] for part in parts}
    for part in parts:
        present = {label for _, label in images[part]}
        if lacking := [name for name, label in labels.items() if label not in present]:
            folder = f"{part}/{lacking[0]}"
            kinds = _kinds([*_below(folder, tree.others)])
            what = f"{', '.join(sorted(SUFFIXES))}" + (f"; it has {kinds}" if kinds else "")
            raise ValueError(
                f"{root / folder} holds no image ({what}); fill it, or remove it from {' and '.join(parts)}"
            )
    return tuple(names), images


def remarks(tree: Tree, parts: Sequence[str]) -> str:
    """Return what a user may not expect of a listing, in one line; empty where there is nothing."""
    said = []
    if nested := [path for part in parts for path in tree.images(part) if path.count("/") > 2]:
        said.append(
            f"{len(nested)} images in folders inside of class folders count as those classes', such as {nested[0]}"
        )
    if beside := [path for part in parts for path in tree.beside_classes(part)]:
        said.append(f"{len(beside)} images beside the class folders are left out, such as {beside[0]}")
    if tree.others:
        said.append(
            f"{len(tree.others)} files are no images by their names and are left out ({_kinds(tree.others)}), such as "
            f"{tree.others[0]}"
        )
    return "; ".join(said)


def _add_folder(tree: Tree, root: Path, folder: str) -> list[str]:
    """Add what lies in a folder to the tree, and return the names of the folders in it, links last."""
    folders, links = [], []
    try:
        tree.folders[folder] = os.stat(f"{root}/{folder}").st_mtime_ns  # noqa: PTH116 - no Path a million times
        with os.scandir(f"{root}/{folder}") as entries:
            contents = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"{root}/{folder} can't be read ({error.strerror}); expected folders that this user may read"
        ) from None
    for entry in contents:
        if is_junk(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112
            links.append(entry.name)
        elif is_image(entry.name):
            tree.files[f"{folder}/{entry.name}"] = file_size(entry.path)
        else:
            tree.others.append(f"{folder}/{entry.name}")
    return folders + links


def file_size(path: str) -> int:
    """Return the size of a file; -1 where it can't be looked at, as of a link to nowhere."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1


def _identity(root: Path, folder: str) -> tuple[int, int]:
    try:
        found = os.stat(f"{root}/{folder}")  # noqa: PTH116
    except OSError:
        return -1, -1  # to be refused by name when it is read
    return found.st_dev, found.st_ino


def _is_one_line(name: str) -> bool:
    """Whether it is UTF-8, which a file's name need not be, and no break of lines is in it."""
    return len(name.splitlines()) == 1 and name == name.encode(errors="ignore").decode()


def _below(folder: str, paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if path.startswith(f"{folder}/"))


def _kinds(files: Sequence[str]) -> str:
    """Return how many files there are of each suffix, in words; empty for none."""
    kinds = Counter(os.path.splitext(file)[1].lower() or "without a suffix" for file in files)  # noqa: PTH122
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
