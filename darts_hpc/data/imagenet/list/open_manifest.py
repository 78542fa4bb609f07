"""Finding the manifest of a data folder, or making it: once, by one process, while the others wait."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from darts_hpc.data.imagenet.list.inspect import build_manifest, damage_has_changed
from darts_hpc.data.imagenet.list.listing import PARTS, no_folder
from darts_hpc.data.imagenet.list.manifest import Manifest, check_unchanged, load_manifest, save_manifest
from darts_hpc.data.imagenet.list.quarantine import journal_of
from darts_hpc.distributed.long_tasks import run_on_all, run_on_main
from darts_hpc.distributed.world import World
from darts_hpc.locks import locked
from darts_hpc.user_files import is_file, is_folder

log = logging.getLogger(__name__)

NAME, VAL_NAME = "manifest.npz", "manifest.val.npz"
STAGING = ".staging"
"""Lies in a folder while it is being copied to, and after a copy that was cut short."""


ANOTHER_PLACE = "name another place with --manifest"
FIX_AND_REPEAT = "fix that, and run the same again"
"""For entries without that flag."""


def open_manifest(
    root: Path, path: Path | None, world: World, parts: Sequence[str] = PARTS, way_out: str = ANOTHER_PLACE
) -> tuple[Manifest, Path]:
    """Return the manifest of the images under root, of these parts, and the file it is kept in. Every rank calls it.

    way_out: what to do where it can't be written.
    Raises ValueError, one line, on every rank: no such data, a manifest that can't be used or written, data that
    changed since it was made, or nodes that see different data.
    """
    path = manifest_path(root, NAME if "train" in parts else VAL_NAME, way_out) if path is None else path
    run_on_main(world, lambda: make_manifest(root, path, parts, way_out))
    run_on_all(world, lambda: _make_missing(root, path, parts, way_out))
    manifest = load_manifest(path)
    if lacking := [part for part in parts if part not in manifest.parts]:
        raise ValueError(f"the manifest {path} has no {lacking[0]} images; remove it to have it made again")
    if len(set(world.gather_objects(manifest.digest()))) > 1:
        raise ValueError(f"--data {root} holds different images on different nodes; copy or stage it again")
    return manifest, path


def manifest_path(root: Path, name: str = NAME, way_out: str = ANOTHER_PLACE) -> Path:
    """Return where a folder's manifest lies: inside it, or in the user's cache where that can't be written or read.

    Raises ValueError, one line, where there is no such cache, as for a user without a home folder.
    """
    inside = root / name
    is_there = is_file(inside)
    if os.access(inside, os.R_OK) if is_there else os.access(root, os.W_OK) or not is_folder(root):
        return inside
    folder = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise ValueError(
            f"the manifest {inside} can't be {'read' if is_there else 'written'}, and this user has no home folder to "
            f"keep one in; {way_out}, or set XDG_CACHE_HOME"
        ) from None
    path = cache / "darts_hpc" / f"{folder}{name.removeprefix('manifest')}"
    if is_there:
        log.warning("the manifest %s can't be read by this user; another is kept in %s", inside, path)
    return path


def make_manifest(root: Path, path: Path, parts: Sequence[str] = PARTS, way_out: str = ANOTHER_PLACE) -> None:
    """See to it that the manifest is there and is that of the data as it now lies."""
    with _reading(root):
        if (root / STAGING).exists():
            raise ValueError(f"--data {root} is half copied; run python -m darts_hpc.stage again, until it ends")
        if is_folder(root):
            next(root.iterdir(), None)
        elif not is_file(path):
            raise ValueError(no_folder(root))
    if is_file(path) or not _made(root, path, parts, way_out):
        with _reading(root):
            manifest = load_manifest(path)
            check_unchanged(manifest, root, path)
            is_outdated = damage_has_changed(manifest, root)
        if is_outdated:
            log.info("images of %s that were damaged have changed, and are looked at again", root)
            _made(root, path, manifest.parts, way_out, manifest)


def _made(root: Path, path: Path, parts: Sequence[str], way_out: str, before: Manifest | None = None) -> bool:
    """Make the manifest, unless another process did while this one waited; or make it again."""
    with _refusing(f"can't write the manifest {path}", way_out):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            if before is None and _is_there(path):
                return False
            with _reading(root):
                manifest = build_manifest(root, len(os.sched_getaffinity(0)), parts, before)
            if before is None:
                journal_of(path).unlink(missing_ok=True)
            save_manifest(manifest, path)
            return True


def _make_missing(root: Path, path: Path, parts: Sequence[str], way_out: str) -> None:
    """Make the manifest where rank 0's did not appear: this node has the data on a disk of its own."""
    with _refusing(f"can't look for the manifest {path}", way_out):
        is_there = _is_there(path)
    if not is_there:
        make_manifest(root, path, parts, way_out)


def _reading(root: Path) -> AbstractContextManager[None]:
    return _refusing(f"--data {root} can't be read", "expected folders that this user may read")


@contextmanager
def _refusing(problem: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{problem} ({error}); {way_out}") from None


def _is_there(path: Path) -> bool:
    """Ask the folder: a network file system may remember for a while that a file was missing."""
    return path.parent.is_dir() and path.name in os.listdir(path.parent)  # noqa: PTH208
