"""Copying a data folder to a disk of this node: once, verified, and never used before it is whole."""

import dataclasses
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from darts_hpc.data.class_folders import list_tree
from darts_hpc.data.imagenet.list.listing import list_shards, shard_files, tree_folders
from darts_hpc.data.imagenet.list.manifest import Manifest, check_unchanged, load_manifest, save_manifest
from darts_hpc.data.imagenet.list.open_manifest import NAME, STAGING, VAL_NAME
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.data.imagenet.list.verify import find_damage
from darts_hpc.data.imagenet.prepare.destination import check_not_linked, make_folder
from darts_hpc.durable import failpoint
from darts_hpc.locks import locked
from darts_hpc.progress import Progress
from darts_hpc.units import readable_bytes

log = logging.getLogger(__name__)

LOCK, STAGED = ".staging.lock", ".staged"
"""The second stays in a staged folder: what lies there was copied, and may be removed for other images."""
SPARE = 1.02
"""Share of the images' size that must be free: folders take some room too."""


def stage(source: Path, manifest: Manifest, destination: Path, num_threads: int) -> bool:
    """Copy the usable images of a manifest to a folder of this node; return whether there was anything to do.

    One process copies while the others on the node wait. The folder holds the file .staging until every image was read
    back, and nothing is trained on it before that; files that an interrupted copy left whole are kept, and those of an
    earlier staging that are no longer among the images are removed.

    Raises ValueError, one line: a destination that everybody may write to, or a link out of it, no room, images there
    that were not staged, an unreadable source, a copy that does not read back.
    """
    wanted = _of_usable_files(manifest)
    try:
        make_folder(destination)
        with locked(destination / LOCK):
            if _is_staged(wanted, destination):
                return False
            superfluous = _superfluous(source, wanted, destination)
            (destination / STAGING).touch()
            for name in (NAME, VAL_NAME, STAGED):
                (destination / name).unlink(missing_ok=True)
            _remove(destination, superfluous)
            _copy_verified(source, wanted, destination, num_threads)
            staged = _as_it_lies(wanted, destination)
            save_manifest(staged, destination / NAME)
            check_unchanged(staged, destination, destination / NAME)
            (destination / STAGING).rename(destination / STAGED)
    except OSError as error:
        raise ValueError(f"can't stage {source} to {destination} ({error}); fix that and run it again") from None
    return True


def _of_usable_files(manifest: Manifest) -> Manifest:
    """Leave out the files that no usable image lies in: some can't be read, and some are links to nowhere."""
    parts = {name: getattr(manifest, name) for name in manifest.parts}
    used = np.unique(np.concatenate([part.files for part in parts.values()]))
    names = PackedStrings.of(manifest.file_names[int(i)] for i in used)
    places = {
        name: dataclasses.replace(part, file_names=names, files=np.searchsorted(used, part.files).astype(np.int32))
        for name, part in parts.items()
    }
    return dataclasses.replace(manifest, file_names=names, file_sizes=manifest.file_sizes[used], **places)


def _is_staged(wanted: Manifest, destination: Path) -> bool:
    """Whether the very same images lie there, whole."""
    if (destination / STAGING).exists() or not (destination / NAME).is_file():
        return False
    try:
        staged = load_manifest(destination / NAME)
        check_unchanged(staged, destination, destination / NAME)
    except ValueError as problem:
        log.warning("staging again: %s", problem)
        return False
    return staged.digest() == wanted.digest() and staged.file_names.equals(wanted.file_names)


def _superfluous(source: Path, wanted: Manifest, destination: Path) -> list[str]:
    """Return the image files there that are not wanted. Raises ValueError where they are nobody's copy."""
    there, sizes = list_tree(destination, wanted.parts).files, _sizes(wanted)
    if not len(wanted.folders):
        there |= shard_files(destination, list_shards(destination, wanted.parts))
    others = sorted(name for name, size in there.items() if sizes.get(name) != size)
    is_copy = (destination / STAGING).exists() or (destination / STAGED).exists()
    if others and not is_copy:
        raise ValueError(
            f"{destination} holds images that no staging put there, such as {others[0]}; choose another folder than "
            f"that, or remove what is not of {source}"
        )
    return [name for name in others if name not in sizes]


def _remove(root: Path, names: list[str]) -> None:
    """Remove files, and the folders that this leaves empty, which would look like classes."""
    folders = set()
    for name in names:
        (root / name).unlink()
        folders |= {parent for parent in (root / name).parents if root in parent.parents}
    for folder in sorted(folders, reverse=True):  # the deepest first
        if not any(folder.iterdir()):
            folder.rmdir()


def _copy_verified(source: Path, wanted: Manifest, destination: Path, num_threads: int) -> None:
    damage = []
    for _ in range(2):  # what an earlier staging left may have the name and the size of another image
        _copy_all(source, wanted, destination, num_threads)
        total = len(wanted.train) + len(wanted.val)
        with Progress(total, "image", title=f"verifying {destination}", logged=True) as progress:
            damage = find_damage(destination, wanted, num_threads, progress.add)
        if not damage:
            return
        for one in damage:
            (destination / one.name.partition(":")[0]).unlink(missing_ok=True)
    raise ValueError(
        f"{len(damage)} staged images are not those of the manifest, such as {damage[0]}; they are removed: run it "
        "again, and if it stays so, the source is damaged"
    )


def _copy_all(source: Path, wanted: Manifest, destination: Path, num_threads: int) -> None:
    missing = {name: size for name, size in _sizes(wanted).items() if _size(destination / name) != size}
    needed, free = sum(missing.values()), shutil.disk_usage(destination).free
    if needed * SPARE > free:
        raise ValueError(
            f"{destination} has {readable_bytes(free)} free, and staging {source} takes "
            f"{readable_bytes(needed * SPARE)}; free some, or stage to another disk"
        )
    for folder in {destination / name for name in wanted.folders} | {(destination / name).parent for name in missing}:
        check_not_linked(destination, folder)
        folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(len(missing), "file", title=f"copying to {destination}", logged=True)
    with ThreadPoolExecutor(num_threads) as pool, progress:
        for _ in pool.map(lambda name: _copy(source / name, destination / name), missing):
            progress.add()


def _as_it_lies(wanted: Manifest, destination: Path) -> Manifest:
    """Return the manifest of the folder as it is now."""
    folders = tree_folders(destination, dict.fromkeys(wanted.folders, 0))
    sizes = [_size(destination / name) for name in wanted.file_names]
    return dataclasses.replace(
        wanted, file_sizes=np.array(sizes, np.int64), folder_times=np.array(list(folders.values()), np.int64)
    )


def _copy(source: Path, destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}.writing")
    temporary.unlink(missing_ok=True)  # a link, which would be followed
    shutil.copyfile(source, temporary)
    failpoint(f"while_staging:{destination.name}")
    temporary.replace(destination)


def _sizes(manifest: Manifest) -> dict[str, int]:
    return dict(zip(manifest.file_names, manifest.file_sizes.tolist(), strict=True))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
