"""Copying a data folder to a disk of this node: once, verified, and never used before it is whole."""

import dataclasses
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from darts_hpc.data.imagenet.counter import Counter
from darts_hpc.data.imagenet.listing import tree_folders
from darts_hpc.data.imagenet.lock import locked
from darts_hpc.data.imagenet.manifest import Manifest, check_unchanged, load_manifest, save_manifest
from darts_hpc.data.imagenet.open_manifest import NAME, STAGING
from darts_hpc.data.imagenet.verify import find_damage
from darts_hpc.durable import failpoint

log = logging.getLogger(__name__)

LOCK = ".staging.lock"
SPARE = 1.02
"""Share of the images' size that must be free: folders take some room too."""


def stage(source: Path, manifest: Manifest, destination: Path, num_threads: int) -> bool:
    """Copy the images of a manifest to a folder of this node; return whether there was anything to do.

    One process copies while the others on the node wait. The folder holds the file .staging until every image was read
    back, and nothing is trained on it before that; files that an interrupted copy left whole are kept.

    Raises ValueError, one line: no room, an unreadable source, a copy that does not read back.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with locked(destination / LOCK):
            if _is_staged(manifest, destination):
                return False
            (destination / STAGING).touch()
            (destination / NAME).unlink(missing_ok=True)
            _copy_all(source, manifest, destination, num_threads)
            _verify(manifest, destination, num_threads)
            folders = tree_folders(destination, dict.fromkeys(manifest.folders, 0))
            times = np.array(list(folders.values()), np.int64)
            save_manifest(dataclasses.replace(manifest, folder_times=times), destination / NAME)
            (destination / STAGING).unlink()
    except OSError as error:
        raise ValueError(f"can't stage {source} to {destination} ({error}); mend that and run it again") from None
    return True


def _is_staged(manifest: Manifest, destination: Path) -> bool:
    """Whether the very same images lie there, whole."""
    if (destination / STAGING).exists() or not (destination / NAME).is_file():
        return False
    try:
        staged = load_manifest(destination / NAME)
        check_unchanged(staged, destination, destination / NAME)
    except ValueError as problem:
        log.warning("staging again: %s", problem)
        return False
    return staged.digest() == manifest.digest() and staged.file_names.equals(manifest.file_names)


def _copy_all(source: Path, manifest: Manifest, destination: Path, num_threads: int) -> None:
    sizes = dict(zip(manifest.file_names, manifest.file_sizes.tolist(), strict=True))
    missing = {name: size for name, size in sizes.items() if size >= 0 and _size(destination / name) != size}
    needed, free = sum(missing.values()), shutil.disk_usage(destination).free
    if needed * SPARE > free:
        raise ValueError(
            f"{destination} has {free / 1e9:.1f} GB free, and staging {source} takes {needed * SPARE / 1e9:.1f} GB; "
            "free some, or stage to another disk"
        )
    for folder in {(destination / name).parent for name in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(num_threads) as pool, Counter(len(missing), f"copying to {destination}", "file") as counter:
        for _ in pool.map(lambda name: _copy(source / name, destination / name), missing):
            counter.add(1)


def _copy(source: Path, destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}.writing")
    shutil.copyfile(source, temporary)
    failpoint(f"while_staging:{destination.name}")
    temporary.replace(destination)


def _verify(manifest: Manifest, destination: Path, num_threads: int) -> None:
    with Counter(len(manifest.train) + len(manifest.val), f"verifying {destination}") as counter:
        damage = find_damage(destination, manifest, num_threads, counter.add)
    if damage:
        for one in damage:
            (destination / one.name.partition(":")[0]).unlink(missing_ok=True)
        raise ValueError(
            f"{len(damage)} staged images are not those of the manifest, such as {damage[0]}; they are removed: run it "
            "again, and if it stays so, the source is damaged"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
