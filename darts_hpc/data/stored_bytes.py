"""Reading stored images. A fault that may pass is waited for, and then ends the run; it is no damage of an image."""

import errno
import os
import resource
import stat
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from darts_hpc.data.rgb import DamagedImage

PASSING = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR,
    errno.EBUSY, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ENOLCK,
})  # fmt: skip
"""Faults of a machine, a disk or a file server, and not of a file."""
PAUSES_S = (0.1, 0.5, 2.0, 5.0)
"""Seconds before each further try."""
WAYS_OUT = {
    errno.EMFILE: "raise ulimit -n, or lower --num_threads",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "lower --num_threads, --prefetch or --batch_size",
}
MAX_OPEN_SHARDS = 256
MAX_BYTES = 1 << 30
"""Of an image; a larger one is taken for a mistake."""


def read_bytes(path: str | Path, offset: int = 0, size: int | None = None) -> bytes:
    """Return a range of a regular file, or all of it from there for size None.

    Raises DamagedImage, saying why, where there is no such file; ValueError, one line, where reading fails for longer.
    """

    def read() -> bytes:
        opened = _Opened(path)
        return opened.read(offset, opened.size if size is None else size)

    return _patiently(path, read)


class Shards:
    """Tars that are read at offsets, by many threads. Those read last stay open: a parallel file system takes long."""

    def __init__(self, limit: int | None = None):
        self._open = lru_cache(limit or open_shards())(_Opened)  # one that is evicted is closed by its last reader

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return a range of a shard. Raises as read_bytes does."""
        return _patiently(path, lambda: self._open(path).read(offset, size), self._open.cache_clear)


def open_shards() -> int:
    """Return how many shards may stay open: a share of the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_SHARDS if soft == resource.RLIM_INFINITY else max(1, min(MAX_OPEN_SHARDS, soft // 8))


class _Opened:
    """A regular file, open for reading until nobody holds it any more."""

    def __init__(self, path: str | Path):
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe is not waited for
        found = os.fstat(self.descriptor)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            raise DamagedImage("no regular file")

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes there; fewer where the file ends."""
        size = min(size, max(0, self.size - offset))
        if size > MAX_BYTES:
            raise DamagedImage(f"{size} bytes, more than any image")
        content = os.pread(self.descriptor, size, offset)
        while 0 < len(content) < size and (
            more := os.pread(self.descriptor, size - len(content), offset + len(content))
        ):
            content += more
        return content


def _patiently(
    path: str | Path, read: Callable[[], bytes], before_another: Callable[[], object] = lambda: None
) -> bytes:
    for pause in (*PAUSES_S, None):
        try:
            return read()
        except (OSError, MemoryError) as error:
            number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno or 0
            reason = os.strerror(number)
        if number not in PASSING:
            raise DamagedImage(reason)
        if pause is None:
            raise ValueError(
                f"{path} can't be read ({reason}), after {len(PAUSES_S) + 1} tries; "
                f"{WAYS_OUT.get(number, 'look at the disk or the file server')}, and start again: that says nothing "
                "of the image, which is not counted as damaged"
            )
        before_another()
        time.sleep(pause)
    raise AssertionError
