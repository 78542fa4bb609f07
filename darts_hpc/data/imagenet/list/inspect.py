"""Reading every image once: its checksum, its width and height, and whether it decodes to its end."""

import logging
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darts_hpc.data.class_folders import file_size
from darts_hpc.data.imagenet.list.listing import PARTS, Entry, Listing, list_data
from darts_hpc.data.imagenet.list.manifest import COLUMNS, Damaged, Manifest, Split
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.data.rgb import DamagedImage, inspect, is_animated
from darts_hpc.data.stored_bytes import read_bytes
from darts_hpc.progress import Progress

log = logging.getLogger(__name__)

BLOCK = 1024
"""Images between two looks at the clock."""


class Facts(NamedTuple):
    """What is kept of an image: bytes, pixels, CRC-32; and whether it has more than one picture."""

    size: int
    width: int
    height: int
    checksum: int
    is_animated: bool = False


def build_manifest(
    root: Path, num_threads: int, parts: Sequence[str] = PARTS, before: Manifest | None = None
) -> Manifest:
    """List the data under root and read every image once, with a progress bar; only these parts.

    before: an earlier manifest; images in files that have kept their sizes are not read again.

    Raises ValueError, one line, for data that is not laid out as expected, or without any usable image.
    """
    listing = list_data(root, parts)
    known = {} if before is None else _known(before, listing)
    file_names = list(listing.files)
    index = {name: i for i, name in enumerate(file_names)}
    shared_names = PackedStrings.of(file_names)
    total = sum(map(len, listing.entries.values()))
    found, animated = {}, []
    progress = Progress(total, "image", title=f"reading the images of {root} once", logged=True)
    with ThreadPoolExecutor(num_threads) as pool, progress:
        for name in PARTS:
            entries, facts = listing.entries[name], []
            for start in range(0, len(entries), BLOCK):
                block = entries[start : start + BLOCK]
                facts += pool.map(lambda entry: known.get(entry[2:4]) or _inspect(root, entry), block)
                progress.add(len(block))
            pairs = zip(entries, facts, strict=True)
            animated += [entry.file for entry, fact in pairs if isinstance(fact, Facts) and fact.is_animated]
            found[name] = _part(entries, facts, index, shared_names, has_keys=not listing.folders)
            if name in parts and not len(found[name]):
                raise ValueError(f"each {name} image under {root} is damaged, such as {found[name].damaged[0]}")
    if animated:
        log.warning(
            "%s: %d images are animations or have several pages, such as %s: the first picture counts",
            root, len(animated), animated[0],
        )  # fmt: skip
    return Manifest(
        classes=listing.classes,
        file_names=shared_names,
        file_sizes=np.array(list(listing.files.values()), np.int64),
        folders=PackedStrings.of(listing.folders),
        folder_times=np.array(list(listing.folders.values()), np.int64),
        **found,
    )


def damage_has_changed(manifest: Manifest, root: Path) -> bool:
    """Whether an image that was left out as damaged may be whole now: its file has another size, or it decodes."""
    files, is_tree = manifest.damaged_files(), len(manifest.folders) > 0
    return any(file_size(f"{root}/{name}") != size for name, size in files.items()) or any(
        isinstance(_inspect(root, Entry("", 0, name, 0, None)), Facts) for name in files if is_tree
    )


def _known(before: Manifest, listing: Listing) -> Mapping[tuple[str, int], Facts]:
    """Return what an earlier manifest says of the images, by file and offset, in files that have kept their sizes."""
    sizes = zip(before.file_names, before.file_sizes.tolist(), strict=True)
    kept = {i: name for i, (name, size) in enumerate(sizes) if listing.files.get(name) == size}
    known = {}
    for part in (before.train, before.val):
        rows = zip(part.files, part.offsets, part.sizes, part.widths, part.heights, part.checksums, strict=True)
        for file, offset, *facts in rows:
            if int(file) in kept:
                known[kept[int(file)], int(offset)] = Facts(*map(int, facts), is_animated=False)
    return known


def _inspect(root: Path, entry: Entry) -> Facts | DamagedImage:
    try:
        content = read_bytes(f"{root}/{entry.file}", entry.offset, entry.size)
        return Facts(len(content), *inspect(content), zlib.crc32(content), is_animated(content))
    except DamagedImage as damage:
        return damage


def _part(
    entries: Sequence[Entry],
    facts: Sequence[Facts | DamagedImage],
    index: dict[str, int],
    file_names: PackedStrings,
    has_keys: bool,
) -> Split:
    rows, keys, damaged = [], [], []
    for entry, fact in zip(entries, facts, strict=True):
        if isinstance(fact, DamagedImage):
            damaged.append(Damaged(f"{entry.file}:{entry.name}" if has_keys else entry.file, str(fact)))
            continue
        size, width, height, checksum, _ = fact
        rows.append((index[entry.file], entry.offset, size, entry.label, width, height, checksum))
        keys.append(entry.name)
    table = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
    columns = {name: table[:, i].astype(kind) for i, (name, kind) in enumerate(COLUMNS.items())}
    return Split(
        file_names=file_names, keys=PackedStrings.of(keys) if has_keys else None, damaged=tuple(damaged), **columns
    )
