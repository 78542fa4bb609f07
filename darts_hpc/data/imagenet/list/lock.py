"""Letting one process at a time make what others wait for."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let in one process of this machine, or of those that share the disk. The file is gone when it leaves.

    Raises OSError where the file can't be written.
    """
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:  # Lustre mounted without flock, for one
                log.warning("%s can't be locked (%s); see that no other process does the same now", path, error)
            if not _is_at(file, path):
                continue  # whom it waited for has removed it, and the next to come would lock another
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
