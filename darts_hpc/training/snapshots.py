"""The latest epochs of a search, each rank's own, which a stop rule may go back to."""

import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from darts_hpc.distributed.world import World
from darts_hpc.errors import is_out_of_memory
from darts_hpc.run.checkpoint import save_atomically
from darts_hpc.user_files import exists, list_folder, read_file

FOLDER = "epochs"
MAX_BYTES = 1 << 40


def save_snapshot(run_folder: Path, epoch: int, state: Mapping[str, Any], rank: int) -> None:
    """Write what an epoch ended with. Raises ValueError where it can't be written."""
    path = _path(run_folder, epoch, rank)
    try:
        path.parent.mkdir(exist_ok=True)
        save_atomically(path, {name: part.state_dict() for name, part in state.items()})
    except OSError as error:
        raise ValueError(
            f"can't write {path} ({error}), which the search may have to go back to; free some space, then go on with "
            f"the same command with --save {run_folder}/ --resume auto"
        ) from None


def load_snapshot(run_folder: Path, epoch: int, state: Mapping[str, Any], world: World) -> None:
    """Restore the named parts of what an epoch ended with. Raises ValueError where it is not there, or damaged."""
    own = _path(run_folder, epoch, world.rank)
    path = own if exists(own) else _path(run_folder, epoch, 0)
    if not exists(path):
        raise _lost(path, "gone")
    content = read_file(path, MAX_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            is_whole = parts.testzip() is None  # torch does not compare the sums
        saved = torch.load(io.BytesIO(content), map_location=world.device, weights_only=True) if is_whole else None
    except Exception as error:  # torch raises nearly anything for what it did not write
        if is_out_of_memory(error):
            raise
        saved = None
    if saved is None:
        raise _lost(path, "damaged")
    for name, part in state.items():
        part.load_state_dict(saved[name])


def _lost(path: Path, how: str) -> ValueError:
    return ValueError(f"{path} is {how}, which the search has to go back to; start it afresh with another --save")


def drop_snapshots(run_folder: Path, epoch: int, rank: int) -> None:
    """Remove a rank's snapshot of an epoch, if there is one."""
    _path(run_folder, epoch, rank).unlink(missing_ok=True)


def drop_all_snapshots(run_folder: Path, rank: int) -> None:
    """Remove all snapshots of a rank, and the folder once it is empty: a finished search needs none."""
    folder = run_folder / FOLDER
    for path in list_folder(folder, f"epoch-*-rank{rank}.pt"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or another rank's are
        folder.rmdir()


def _path(run_folder: Path, epoch: int, rank: int) -> Path:
    return run_folder / FOLDER / f"epoch-{epoch:04d}-rank{rank}.pt"
