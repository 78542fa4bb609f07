"""Reading stored images and comparing them with the manifest's sizes and checksums."""

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from darts_hpc.data.imagenet.list.manifest import Damaged, Manifest, Split
from darts_hpc.data.rgb import DamagedImage
from darts_hpc.data.stored_bytes import read_bytes

BLOCK = 1024
"""Images between two looks at the clock."""


def verified(content: bytes, part: Split, sample_id: int) -> bytes:
    """Return an image's bytes if they are the manifest's. Raises DamagedImage."""
    size = int(part.sizes[sample_id])
    if len(content) != size:
        raise DamagedImage(f"{len(content)} bytes{' or more' * (len(content) > size)} instead of {size}")
    if zlib.crc32(content) != part.checksums[sample_id]:
        raise DamagedImage("its checksum has changed")
    return content


def read_sample(root: Path, part: Split, sample_id: int) -> bytes:
    """Return an image's bytes, which are the manifest's. Raises DamagedImage."""
    path = f"{root}/{part.file_names[int(part.files[sample_id])]}"
    size = int(part.sizes[sample_id])
    whole_file = part.keys is None  # then one byte more is asked for, to see a file that has grown
    return verified(read_bytes(path, int(part.offsets[sample_id]), size + whole_file), part, sample_id)


def find_damage(root: Path, manifest: Manifest, num_threads: int, count: Callable[[int], object]) -> list[Damaged]:
    """Read every image under root, and return those that are not the manifest's. `count` is told of some more done."""
    found = []
    with ThreadPoolExecutor(num_threads) as pool:
        for part in (manifest.train, manifest.val):
            for start in range(0, len(part), BLOCK):
                ids = range(start, min(start + BLOCK, len(part)))
                found += filter(None, pool.map(lambda i, part=part: _damage(root, part, i), ids))
                count(len(ids))
    return found


def _damage(root: Path, part: Split, sample_id: int) -> Damaged | None:
    try:
        read_sample(root, part, sample_id)
    except DamagedImage as damage:
        return Damaged(part.name(sample_id), str(damage))
    return None
