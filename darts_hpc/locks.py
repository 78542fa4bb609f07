"""Locks on files, which one process holds at a time; the kernel releases them when that process dies."""

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine, or of those that share the disk, is inside; remove the file at exit.

    Raises OSError where the file can't be written.
    """
    while True:
        with open(path, "w", opener=_without_waiting) as file:
            _lock(file, fcntl.LOCK_EX, path)
            if not _is_at(file, path):
                continue  # whom it waited for has removed it, and the next to come would lock another
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes out of it.

    Raises ValueError naming the process that has it, or when the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _lock_file(folder).open("a+")
    except OSError as error:
        raise ValueError(
            f"can't write to the run folder {folder}: {error.strerror}; choose another with --save"
        ) from None
    with file:
        try:
            _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise ValueError(f"{folder} is in use by {owner}; wait for it, or choose another --save") from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, it only can't say whose it is
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder. Writes nothing."""
    try:
        with _lock_file(folder).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look are not in each other's way
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)  # else a pipe without a reader is waited for


def _lock_file(folder: Path) -> Path:
    return folder / ".lock"


def _lock(file: IO, how: int, path: Path) -> None:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:  # Lustre mounted without flock, for one
        log.warning("%s can't be locked (%s); make sure that no other process uses it now", path, error)


def _is_at(file: IO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
