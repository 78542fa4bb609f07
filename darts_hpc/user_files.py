"""The door for files that a user names, which may come from anyone: what they are, and what names stand in them."""

import os
import stat
from pathlib import Path, PurePosixPath

MAX_BYTES = 1 << 26
"""Of a text, such as a genotype's or a preset's; a larger one is taken for a mistake."""


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return what is in a regular file. Raises ValueError, one line, for anything else, such as a pipe or a device."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{path} is a folder, a pipe or a device; expected a file")
            if found.st_size > limit:
                raise ValueError(f"{path} has {found.st_size} bytes; expected at most {limit}")
            return file.read(limit)
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}); expected a file that this user may read") from None


def check_inside(name: str, source: str | Path) -> str:
    """Return a relative path that a file holds, if it leads to something inside of the folder it is relative to.

    `source` is that file. Raises ValueError for an absolute path, one with .. in it, and the folder itself.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError(
            f"{source} names {name!r}; expected a path inside its own folder: do not use what this file came with"
        )
    return name


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe without a writer is waited for
