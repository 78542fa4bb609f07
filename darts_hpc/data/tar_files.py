"""The files in a webdataset tar, and where their bytes lie. Nothing is unpacked: names in it are keys, and no paths."""

import os
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from darts_hpc.data.class_folders import SUFFIXES, is_junk
from darts_hpc.user_files import open_file

IMAGE = "image"
"""The kind of every image, whatever its suffix."""
MAX_TEXT = 1 << 20
"""Bytes of a label or of a JSON; of a larger one the rest is not read."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
"""By the first two bytes."""
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


class TarFile(NamedTuple):
    """A file in a tar: its key, its kind (IMAGE, or a suffix such as cls), its place, and the bytes of a label."""

    key: str
    kind: str
    offset: int
    size: int
    text: bytes


def list_tar(path: Path, labels: Collection[str]) -> Iterator[TarFile]:
    """Yield the images and the labels in a tar, in its order; labels: the suffixes that they have, such as cls.

    A hard link stands for the file that it names. What the listing of a tree passes over is passed over here too.

    Raises ValueError, one line, for a tar that is compressed or damaged, and for an image or a label that is no plain
    file; one of another kind is passed over.
    """
    with open_file(path) as file:
        begin = os.pread(file.fileno(), 2, 0)
        if begin in COMPRESSED:
            raise ValueError(
                f"{path} is compressed ({COMPRESSED[begin]}); images are read from where they lie in a plain tar: "
                "decompress it"
            )
        places: dict[str, tuple[int, int]] = {}
        for member in _members(path, file):
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            suffix = suffix.lower()
            kind = IMAGE if f".{suffix}" in SUFFIXES else suffix
            is_wanted = kind in (IMAGE, *labels) and not member.isdir() and not _is_passed_over(member.name)
            if member.isreg() and not member.issparse():
                place = places[member.name] = member.offset_data, member.size
            elif not is_wanted:
                continue
            elif member.islnk() and member.linkname in places:
                place = places[member.name] = places[member.linkname]
            else:
                raise ValueError(
                    f"{path}: {member.name!r} is {_described(member)}; expected plain files: pack it again, with "
                    "tar --dereference --hard-dereference and without --sparse"
                )
            if is_wanted:
                key = f"{folder}/{stem}".removeprefix("./").removeprefix("/")
                text = b"" if kind == IMAGE else os.pread(file.fileno(), min(place[1], MAX_TEXT), place[0])
                yield TarFile(key, kind, *place, text)


def _is_passed_over(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is what systems leave behind, such as __MACOSX/ or ._1.jpg."""
    return any(is_junk(part) for part in name.split("/") if part not in (".", ".."))


def _members(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
                yield member
                tar.members = []  # a million of them take a gigabyte  # pyright: ignore[reportAttributeAccessIssue]
            end = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
    except Exception as error:  # tarfile raises all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} can't be read as a tar ({reason}); copy or pack it again") from None
    if end.strip(b"\0"):  # tarfile stops in silence there
        raise ValueError(f"{path} is damaged at byte {tar.offset}: no tar header; copy or pack it again")


def _described(member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"a symbolic link to {member.linkname!r}"
    if member.islnk():
        return f"a hard link to {member.linkname!r}, which the tar does not hold before it"
    return "sparse" if member.issparse() else "a pipe or a device"
