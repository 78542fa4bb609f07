"""The list of ImageNet's images: where each lies, its size, label, width, height and checksum. Made once, then kept."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darts_hpc.data.class_folders import list_tree
from darts_hpc.data.imagenet.list.listing import PARTS, list_shards, shard_files, tree_folders
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.durable import write_atomically
from darts_hpc.user_files import check_inside, open_file

FORMAT = 1
ALWAYS_LIST = 50_000
"""Up to so many files, the size of each is looked at whenever a manifest is opened."""
COLUMNS = {
    "files": np.int32, "offsets": np.int64, "sizes": np.int64, "labels": np.int64,
    "widths": np.int32, "heights": np.int32, "checksums": np.uint32,
}  # fmt: skip


class Damaged(NamedTuple):
    """An image that can't be used, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        name = self.name if self.name.isprintable() else repr(self.name)
        return f"{name} ({self.reason})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The usable images of train or val; a sample id is an index into these.

    file_names: the manifest's. files (N,): the file that holds each image. offsets, sizes (N,): where in it.
    checksums (N,): CRC-32 of those bytes. labels, widths, heights (N,).
    keys: of samples that share their files with others, the shards. damaged: the images left out.
    """

    file_names: PackedStrings
    files: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    checksums: np.ndarray
    keys: PackedStrings | None = None
    damaged: tuple[Damaged, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample_id: int) -> str:
        """Return what to call a sample: its file, or its shard and key."""
        file = self.file_names[int(self.files[sample_id])]
        return file if self.keys is None else f"{file}:{self.keys[sample_id]}"

    def find(self, names: Collection[str]) -> dict[str, int]:
        """Return the samples of these names, as far as there are any; one pass over a million, however many names."""
        wanted = set(names)
        return {name: i for i in range(len(self) if wanted else 0) if (name := self.name(i)) in wanted}


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Both parts and the classes by label; for evaluation train may be empty.

    file_names: image files or shards, relative to the root; file_sizes: of each (F,), -1 where it can't be looked at.
    folders, folder_times: those of a tree, and when each was changed; none for shards.
    """

    classes: tuple[str, ...]
    train: Split
    val: Split
    file_names: PackedStrings
    file_sizes: np.ndarray
    folders: PackedStrings
    folder_times: np.ndarray

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that it was made of."""
        return tuple(name for name in PARTS if len(getattr(self, name)))

    @property
    def damaged(self) -> tuple[Damaged, ...]:
        """The damaged images of both parts."""
        return self.train.damaged + self.val.damaged

    def damaged_files(self) -> dict[str, int]:
        """Return the files that hold a damaged image, and their sizes; -1 for one that is not there."""
        sizes = {}
        for part in (self.train, self.val):
            sizes |= {one.name if part.keys is None else one.name.partition(":")[0]: -1 for one in part.damaged}
        if sizes:
            listed = zip(self.file_names, self.file_sizes.tolist(), strict=True)
            sizes |= {name: size for name, size in listed if name in sizes}
        return sizes

    def digest(self) -> str:
        """Return a digest of every usable image's bytes and label, in order; the same for a tree and for its shards."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            for column in (part.labels, part.sizes, part.checksums):
                digest.update(np.int64(len(column)).tobytes() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically. Raises OSError."""
    arrays = {
        "format": np.array(FORMAT),
        "file_sizes": manifest.file_sizes,
        "folder_times": manifest.folder_times,
        **_packed("classes", manifest.classes),
        **_packed("file_names", manifest.file_names),
        **_packed("folders", manifest.folders),
    }
    for name in PARTS:
        part: Split = getattr(manifest, name)
        arrays |= {f"{name}.{column}": getattr(part, column) for column in COLUMNS}
        arrays |= {} if part.keys is None else _packed(f"{name}.keys", part.keys)
        arrays |= _packed(f"{name}.damaged", [text for damaged in part.damaged for text in damaged])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType] - its stub has a flag for the keywords
    write_atomically(path, buffer.getvalue())


def load_manifest(path: Path) -> Manifest:
    """Read a manifest, which anyone may have written.

    Raises ValueError for a damaged file, one of another format, and one whose parts contradict each other or name
    what lies outside of the data folder.
    """
    try:
        with open_file(path) as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError("it holds a single array, as an .npy file does")
            arrays = {key: file[key] for key in file.files}  # zipfile verifies the CRC of each
        if int(arrays["format"]) != FORMAT:
            raise ValueError(f"it is of format {int(arrays['format'])}, not {FORMAT}")
        file_names = _unpacked(arrays, "file_names")
        parts = {}
        for name in PARTS:
            texts = list(_unpacked(arrays, f"{name}.damaged"))
            parts[name] = Split(
                file_names=file_names,
                keys=_unpacked(arrays, f"{name}.keys") if f"{name}.keys.text" in arrays else None,
                damaged=tuple(map(Damaged, texts[::2], texts[1::2])),
                **{column: arrays[f"{name}.{column}"] for column in COLUMNS},
            )
        manifest = Manifest(
            classes=tuple(_unpacked(arrays, "classes")),
            file_names=file_names,
            file_sizes=arrays["file_sizes"],
            folders=_unpacked(arrays, "folders"),
            folder_times=arrays["folder_times"],
            **parts,
        )
        _check(manifest)
    except (
        OSError, ValueError, TypeError, KeyError, EOFError, NotImplementedError, MemoryError, zlib.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise ValueError(f"the manifest {path} can't be used ({error}); remove it to have it made again") from None
    for names in (manifest.file_names, manifest.folders):
        _check_names(names, path)
    return manifest


def check_unchanged(manifest: Manifest, root: Path, path: Path) -> None:
    """Refuse a manifest whose data was changed: an image file or shard added, removed, renamed or of another size.

    Those with damaged images may be. The files of a large tree are looked at only where one of its folders has changed.
    One that is rewritten in place is found by its checksum, when it is read. Raises ValueError, one line.
    """
    if len(manifest.folders):
        folders = dict(zip(manifest.folders, manifest.folder_times.tolist(), strict=True))
        if len(manifest.file_names) > ALWAYS_LIST and tree_folders(root, folders) == folders:
            return
        now = list_tree(root, manifest.parts).files
    else:
        now = shard_files(root, list_shards(root, manifest.parts))
    listed = dict(zip(manifest.file_names, manifest.file_sizes.tolist(), strict=True))
    may_change = manifest.damaged_files()
    changed = {name for name in now.keys() | listed.keys() if now.get(name) != listed.get(name)} - may_change.keys()
    if not changed:
        return
    name = min(changed)
    before, after = (_described(files.get(name)) for files in (listed, now))
    raise ValueError(
        f"the images under {root} have changed since {path} was made: {name} was {before} and is {after}; "
        "restore them, or remove that manifest to have it made again"
    )


def _check(manifest: Manifest) -> None:
    """Raise ValueError where columns differ in length or kind, or point at no file or class."""
    per_file = [("file_sizes", manifest.file_sizes, manifest.file_names)]
    per_file += [("folder_times", manifest.folder_times, manifest.folders)]
    for name, column, names in per_file:
        _check_column(name, column, len(names), np.dtype(np.int64))
    limits = {"files": len(manifest.file_names), "labels": len(manifest.classes)}
    for name in PARTS:
        part: Split = getattr(manifest, name)
        for column, kind in COLUMNS.items():
            values = getattr(part, column)
            _check_column(f"{name}.{column}", values, part.labels.size, np.dtype(kind))
            if len(values) and not 0 <= values.min() <= values.max() < limits.get(column, np.inf):
                raise ValueError(f"{name}.{column} goes from {values.min()} to {values.max()}")
        if part.keys is not None and len(part.keys) != len(part):
            raise ValueError(f"{name}.keys has {len(part.keys)} entries instead of {len(part)}")


def _check_column(name: str, column: np.ndarray, length: int, kind: np.dtype) -> None:
    if column.shape != (length,) or column.dtype != kind:
        raise ValueError(f"{name} is {column.dtype} {column.shape} instead of {kind} ({length},)")


def _check_names(names: PackedStrings, path: Path) -> None:
    """Raise ValueError where a name leads out of the data folder. A million innocent ones take milliseconds."""
    text, lengths = names.text.tobytes(), np.diff(names.ends, prepend=0)
    starts = (names.ends - lengths)[lengths > 0]
    if b".." in text or b"\0" in text or not lengths.all() or (names.text[starts] == ord("/")).any():
        for name in names:
            check_inside(name, path)


def _described(size: int | None) -> str:
    return "absent" if size is None else "a link to nowhere" if size < 0 else f"of {size} bytes"


def _packed(name: str, texts: Iterable[str]) -> dict[str, np.ndarray]:
    strings = texts if isinstance(texts, PackedStrings) else PackedStrings.of(texts)
    return {f"{name}.text": strings.text, f"{name}.ends": strings.ends}


def _unpacked(arrays: dict[str, np.ndarray], name: str) -> PackedStrings:
    text, ends = arrays[f"{name}.text"], arrays[f"{name}.ends"]
    _check_column(f"{name}.text", text, text.size, np.dtype(np.uint8))
    _check_column(f"{name}.ends", ends, ends.size, np.dtype(np.int64))
    if len(ends) and (np.diff(ends, prepend=0).min() < 0 or ends[-1] != len(text)):
        raise ValueError(f"{name}.ends do not fit {name}.text")
    return PackedStrings(text, ends)
