"""Writing images into tar shards, shuffled. What goes where is planned first, so an interrupted packing goes on."""

import dataclasses
import io
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from darts_hpc import counter_rng, strict_json
from darts_hpc.data.class_folders import is_junk
from darts_hpc.data.imagenet.list.listing import CLASSES, PARTS
from darts_hpc.data.imagenet.list.manifest import Manifest, Split, load_manifest, save_manifest
from darts_hpc.data.imagenet.list.open_manifest import NAME
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.data.imagenet.list.verify import find_damage, read_sample
from darts_hpc.data.rgb import DamagedImage
from darts_hpc.durable import failpoint, fsync_folder, write_atomically
from darts_hpc.progress import Progress
from darts_hpc.user_files import exists, is_file, is_folder, list_folder, read_json

log = logging.getLogger(__name__)

PLAN = "pack.json"
PACKED = re.compile(rf"(train|val)-\d{{6,}}\.tar|manifest\..*|{re.escape(PLAN)}|{re.escape(CLASSES)}")
"""What a pack's folder holds."""
SUFFIX_OF = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}
"""By an image's first two bytes; what else there is calls itself jpg, and is told apart by its content all the same."""


class Shard(NamedTuple):
    """A tar file to write: the samples of a part, in this order."""

    part: str
    name: str
    ids: np.ndarray


def pack(source: Path, manifest: Manifest, destination: Path, *, shard_bytes: int, seed: int, num_threads: int) -> int:
    """Write the images of a manifest into tar shards of about shard_bytes; return how many shards there are.

    An image becomes ID.jpg and ID.cls: its sample id, and its label in digits, as webdataset has it. Shards are renamed
    when they are whole, and the manifest is written when every image was read back; so the same call after an
    interruption goes on, and a half-packed folder is never taken for a whole one.

    Raises ValueError, one line: another pack lies there, an image of the source has changed, a full disk.
    """
    shards = [
        shard
        for stream, name in enumerate(PARTS)
        for shard in _plan(name, getattr(manifest, name), shard_bytes, seed, stream)
    ]
    try:
        check_pack_folder(destination)
        _check_plan(destination, plan := {"digest": manifest.digest(), "shard_bytes": shard_bytes, "seed": seed})
        destination.mkdir(parents=True, exist_ok=True)
        if not is_file(destination / PLAN):
            write_atomically(destination / PLAN, strict_json.dumps(plan).encode())
        packed = _packed_manifest(manifest, shards)
        if (destination / NAME).is_file() and load_manifest(destination / NAME).digest() == packed.digest():
            log.info("%s is packed already", destination)
            return len(shards)
        write_atomically(destination / CLASSES, "".join(f"{name}\n" for name in manifest.classes).encode())
        progress = Progress(len(shards), "shard", title=f"packing {source}", logged=True)
        with ThreadPoolExecutor(num_threads) as pool, progress:
            for _ in pool.map(lambda shard: _write(source, manifest, destination, shard), shards):
                progress.add()
        fsync_folder(destination)
        total = len(packed.train) + len(packed.val)
        with Progress(total, "image", title=f"verifying {destination}", logged=True) as progress:
            damage = find_damage(destination, packed, num_threads, progress.add)
        if damage:
            for name in {str(one.name).partition(":")[0] for one in damage}:
                (destination / name).unlink(missing_ok=True)
            raise ValueError(f"{len(damage)} images did not read back, such as {damage[0]}; run the same command again")
        save_manifest(_with_sizes(packed, destination), destination / NAME)
    except OSError as error:
        raise ValueError(f"can't pack to {destination} ({error}); fix that, and run the same command again") from None
    return len(shards)


def _plan(name: str, part: Split, shard_bytes: int, seed: int, stream: int) -> Iterator[Shard]:
    ids = torch.arange(len(part))
    shuffled = counter_rng.random_bits(seed, ids, stream).argsort(stable=True).numpy()
    number = np.cumsum(part.sizes[shuffled]) // shard_bytes
    for k, members in enumerate(np.split(shuffled, np.flatnonzero(np.diff(number)) + 1)):
        yield Shard(name, f"{name}-{k:06}.tar", members)


def check_pack_folder(destination: Path) -> None:
    """Refuse a folder that holds anything but a pack, whole or begun. Raises ValueError, one line; writes nothing."""
    if exists(destination) and not is_folder(destination):
        raise ValueError(f"{destination} is a file; choose a folder")
    contents = [path for path in list_folder(destination) if not is_junk(path.name)]
    is_pack = is_file(destination / PLAN)
    for path in contents:
        if not (is_pack and PACKED.fullmatch(path.name) and is_file(path)):
            raise ValueError(f"{destination} holds {path.name} already; choose another folder, or empty that")


def _check_plan(destination: Path, plan: dict[str, object]) -> None:
    """Refuse a pack of other images or flags."""
    file = destination / PLAN
    if not is_file(file):
        return
    try:
        begun = read_json(file)
    except ValueError:
        raise ValueError(f"{file} is damaged; empty {destination}, or choose another folder") from None
    if begun != plan:
        raise ValueError(f"{destination} holds a pack of other images or flags; choose another folder")


def _write(source: Path, manifest: Manifest, destination: Path, shard: Shard) -> None:
    """Write one shard, unless it is there."""
    if (destination / shard.name).is_file():
        return
    part: Split = getattr(manifest, shard.part)
    temporary = destination / f".{shard.name}.writing"
    with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample_id in shard.ids.tolist():
            try:
                content = read_sample(source, part, sample_id)
            except DamagedImage as damage:
                raise ValueError(f"{source}: {part.name(sample_id)} was damaged while packing ({damage})") from None
            _add(tar, f"{sample_id:08}.{SUFFIX_OF.get(content[:2], 'jpg')}", content)
            _add(tar, f"{sample_id:08}.cls", str(part.labels[sample_id]).encode())
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    failpoint(f"before_rename:{shard.name}")
    temporary.replace(destination / shard.name)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _packed_manifest(manifest: Manifest, shards: list[Shard]) -> Manifest:
    """Return the manifest of the shards: the same images under the same ids, elsewhere."""
    file_names = PackedStrings.of(shard.name for shard in shards)
    parts = {}
    for name in PARTS:
        part: Split = getattr(manifest, name)
        files, offsets = np.zeros_like(part.files), np.zeros_like(part.offsets)
        for index, shard in enumerate(shards):
            if shard.part == name:
                files[shard.ids] = index
                offsets[shard.ids] = _offsets(part.sizes[shard.ids])
        keys = PackedStrings.of(part.keys[i] if part.keys is not None else part.name(i) for i in range(len(part)))
        parts[name] = dataclasses.replace(
            part, file_names=file_names, files=files, offsets=offsets, keys=keys, damaged=()
        )
    return dataclasses.replace(
        manifest, file_names=file_names, folders=PackedStrings.of(()), folder_times=np.empty(0, np.int64), **parts
    )


def _offsets(sizes: np.ndarray) -> np.ndarray:
    """Return where each image begins in a shard: each has a header, and is followed by its label's header and block."""
    block = tarfile.BLOCKSIZE
    steps = block + -(-sizes // block) * block + 2 * block
    return np.cumsum(steps) - steps + block


def _with_sizes(manifest: Manifest, root: Path) -> Manifest:
    sizes = [(root / name).stat().st_size for name in manifest.file_names]
    return dataclasses.replace(manifest, file_sizes=np.array(sizes, np.int64))
