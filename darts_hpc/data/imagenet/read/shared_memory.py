"""Batches of worker processes by way of shared memory, and one line where that is full: torch waits for ever then."""

import errno
import mmap
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SHARED_MEMORY = "/dev/shm"
LOCKS_PER_WORKER = 16
"""More than torch makes; each takes a page."""
SHORT_FOLDER, LONGEST = "/tmp", 60
"""Sockets between the processes have paths of up to 107 bytes, 40 of them of multiprocessing's own."""


class SharedMemoryLoader:
    """torch's DataLoader, with its arguments, of a dataset whose items are batches: tuples with tensors in them."""

    def __init__(self, dataset: Dataset[Any], **arguments: Any):
        self._loader = DataLoader(_InSharedMemory(dataset), **arguments)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches. Raises ValueError, one line, where they, or the workers' locks, don't fit into it, and
        where this process may not open as many files as its workers need.
        """
        if shutil.disk_usage(SHARED_MEMORY).free < LOCKS_PER_WORKER * mmap.PAGESIZE * self._loader.num_workers:
            raise _is_full(0)
        try:
            for item in self._loader:
                if isinstance(item, _NoRoom):
                    raise _is_full(item.num_bytes)
                yield item
        except (OSError, EOFError, RuntimeError) as error:
            if not _is_out_of_files(error):
                raise
            raise ValueError(
                f"too many open files for --loader torchvision: ulimit -n is {getrlimit(RLIMIT_NOFILE)[0]}; raise it "
                "(ulimit -n 4096), or lower --num_threads and --prefetch, or take --loader dali"
            ) from None


class _InSharedMemory(Dataset[Any]):
    """A dataset's batches in shared memory already: where torch puts them there, no error gets to the main process."""

    def __init__(self, dataset: Dataset[Any]):
        self.dataset = dataset

    def __getitem__(self, position: Any) -> Any:
        item = self.dataset[position]
        tensors = [part for part in item if isinstance(part, Tensor)] if isinstance(item, tuple) else []
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except (RuntimeError, OSError):
            return _NoRoom(sum(tensor.nbytes for tensor in tensors))
        return item


class _NoRoom:
    """In place of a batch that did not fit."""

    def __init__(self, num_bytes: int):
        self.num_bytes = num_bytes


def shorten_socket_paths() -> None:
    """Let multiprocessing put its sockets into a private folder below /tmp where TMPDIR is too long for them."""
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST:
        before, tempfile.tempdir = tempfile.tempdir, SHORT_FOLDER
        try:
            multiprocessing.util.get_temp_dir()  # makes it, keeps it, and removes it in the end
        finally:
            tempfile.tempdir = before


def _is_out_of_files(error: BaseException) -> bool:
    """Whether a process could open no more files; torch says so in words, and a worker by its end."""
    cause = error.__context__
    by_number = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return by_number or "Too many open files" in str(error) or (cause is not None and _is_out_of_files(cause))


def _is_full(num_bytes: int) -> ValueError:
    usage = shutil.disk_usage(SHARED_MEMORY)
    need = f", and a batch takes {num_bytes / 2**20:.1f} MB" if num_bytes else ""
    return ValueError(
        f"{SHARED_MEMORY}, through which --loader torchvision hands on its batches, has {usage.free / 2**20:.1f} MB "
        f"left of {usage.total / 2**20:.1f}{need}; make room there (docker run --shm-size 8g), or lower --prefetch, "
        "--num_threads or --batch_size, or take --loader dali"
    )
