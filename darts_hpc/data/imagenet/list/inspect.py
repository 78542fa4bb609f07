"""Reading every image once: its checksum, its width and height, and whether it decodes to its end."""

import io
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from darts_hpc.data.imagenet.list.listing import PARTS, Entry, list_data
from darts_hpc.data.imagenet.list.manifest import COLUMNS, Damaged, Manifest, Split
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.progress import Progress

BLOCK = 1024
"""Images between two looks at the clock."""


class DamagedImage(Exception):
    """Why an image can't be used."""


def build_manifest(root: Path, num_threads: int, parts: Sequence[str] = PARTS) -> Manifest:
    """List the data under root and read every image once, with a progress bar; only these parts.

    Raises ValueError, one line, for data that is not laid out as expected, or without any usable image.
    """
    listing = list_data(root, parts)
    file_names = list(listing.files)
    index = {name: i for i, name in enumerate(file_names)}
    shared_names = PackedStrings.of(file_names)
    total = sum(map(len, listing.entries.values()))
    found = {}
    progress = Progress(total, "image", title=f"reading the images of {root} once", logged=True)
    with ThreadPoolExecutor(num_threads) as pool, progress:
        for name in PARTS:
            entries, facts = listing.entries[name], []
            for start in range(0, len(entries), BLOCK):
                block = entries[start : start + BLOCK]
                facts += pool.map(lambda entry: _inspect(root, entry), block)
                progress.add(len(block))
            found[name] = _part(entries, facts, index, shared_names, has_keys=not listing.folders)
            if name in parts and not len(found[name]):
                raise ValueError(f"each {name} image under {root} is damaged, such as {found[name].damaged[0]}")
    return Manifest(
        classes=listing.classes,
        file_names=shared_names,
        file_sizes=np.array(list(listing.files.values()), np.int64),
        folders=PackedStrings.of(listing.folders),
        folder_times=np.array(list(listing.folders.values()), np.int64),
        **found,
    )


def inspect_image(content: bytes) -> tuple[int, int]:
    """Return width and height of an image that decodes to its end. Raises DamagedImage."""
    if not content:
        raise DamagedImage("empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            image.draft("RGB", (1, 1))  # a JPEG's whole stream is decoded, and only an eighth of its lines made
            image.load()
    except Image.UnidentifiedImageError:
        raise DamagedImage(f"not an image: begins with {content[:12]!r}") from None
    except Exception as error:  # Pillow's decoders raise all kinds
        raise DamagedImage(" ".join(str(error).split()) or type(error).__name__) from None
    return width, height


def read_bytes(path: str, offset: int, size: int | None) -> bytes:
    """Read a range of a file, or all of it for size None. Raises DamagedImage, saying why, where that fails."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - no Path a million times
            file.seek(offset)
            return file.read() if size is None else file.read(size)
    except OSError as error:
        raise DamagedImage(error.strerror or str(error)) from None


def _inspect(root: Path, entry: Entry) -> tuple[int, int, int, int] | DamagedImage:
    """Return size, width, height and checksum."""
    try:
        content = read_bytes(f"{root}/{entry.file}", entry.offset, entry.size)
        return (len(content), *inspect_image(content), zlib.crc32(content))
    except DamagedImage as damage:
        return damage


def _part(
    entries: Sequence[Entry],
    facts: Sequence[tuple[int, int, int, int] | DamagedImage],
    index: dict[str, int],
    file_names: PackedStrings,
    has_keys: bool,
) -> Split:
    rows, keys, damaged = [], [], []
    for entry, fact in zip(entries, facts, strict=True):
        if isinstance(fact, DamagedImage):
            damaged.append(Damaged(f"{entry.file}:{entry.name}" if has_keys else entry.file, str(fact)))
            continue
        size, width, height, checksum = fact
        rows.append((index[entry.file], entry.offset, size, entry.label, width, height, checksum))
        keys.append(entry.name)
    table = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
    columns = {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(COLUMNS.items())}
    return Split(
        file_names=file_names, keys=PackedStrings.of(keys) if has_keys else None, damaged=tuple(damaged), **columns
    )
