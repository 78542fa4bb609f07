"""Files that are whole or not there: written under a temporary name, fsync'ed, renamed. And kills, for the tests."""

import os
import signal
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one.

    Raises OSError when the disk is full or the like; nothing half-written stays.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        write_durably(temporary, data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb", opener=_without_links) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    failpoint("after_file")


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def fsync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def failpoint(name: str) -> None:
    """Kill this process where the environment asks for it: how tests show that a kill at any point is survived."""
    if os.environ.get("DARTS_HPC_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
