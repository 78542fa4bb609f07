"""Faults of a machine or a disk are waited for, and then end the run by name; they are no damage of an image."""

import errno
import os
import resource
from pathlib import Path

import pytest
from ranks import on_ranks

from darts_hpc.data import stored_bytes
from darts_hpc.data.rgb import DamagedImage
from darts_hpc.data.stored_bytes import Shards, read_bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(b"0123456789")
    return tmp_path / "image"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; in the test not at all."""
    waits: list[float] = []
    monkeypatch.setattr(stored_bytes.time, "sleep", waits.append)
    return waits


def fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int, times: int) -> None:
    """Let a call of the system fail a few times."""
    real, left = getattr(os, call), [times]

    def flaky(*arguments):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, call, flaky)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize("shards", [False, True])
def test_what_passes_is_waited_for_and_else_ends_the_run(file: Path, waits, monkeypatch, number, call, shards: bool):
    read = Shards().read if shards else read_bytes
    fail(monkeypatch, call, number, 3)
    assert read(str(file), 2, 3) == b"234" and len(waits) == 3
    monkeypatch.undo()
    monkeypatch.setattr(stored_bytes.time, "sleep", waits.append)
    fail(monkeypatch, call, number, 1000)
    other = file.with_name("other")
    file.rename(other)
    with pytest.raises(ValueError, match=rf"other can't be read \({os.strerror(number)}\), after 5 tries; ") as refusal:
        read(str(other), 0, 5)
    assert "\n" not in str(refusal.value)


def test_memory_that_runs_out_is_waited_for_too(file: Path, waits, monkeypatch: pytest.MonkeyPatch):
    def read(*_):
        raise MemoryError

    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(ValueError, match=r"can't be read \(Cannot allocate memory\), .*; lower --num_threads"):
        read_bytes(file)
    assert len(waits) == 4


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "Too many levels of symbolic links"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "no regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "no regular file"),
        (lambda path: os.truncate(path, 1 << 40), "1099511627776 bytes, more than any image"),
    ],
)
@pytest.mark.parametrize("shards", [False, True])
def test_what_stays_is_damage(file: Path, waits, spoil, reason: str, shards: bool):
    spoil(file)
    with pytest.raises(DamagedImage, match=reason):
        (Shards().read if shards else read_bytes)(str(file), 0, 1 << 40)
    assert not waits


def test_a_range_beyond_the_end_is_cut(file: Path):
    assert read_bytes(file, 8, 100) == b"89" and read_bytes(file, 20, 5) == b"" and read_bytes(file) == b"0123456789"


def read_many(folder: Path) -> int:
    """Read from a hundred shards with few files to open; return how many stay open."""
    for number in range(100):
        (folder / str(number)).write_bytes(str(number).encode())
    stored_bytes.PAUSES_S = ()  # in this process alone: none but a first try
    before = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, before + 20))
    shards = Shards()
    for _ in range(2):
        assert [int(shards.read(f"{folder}/{number}", 0, 5)) for number in range(100)] == list(range(100))
    return len(list(Path("/proc/self/fd").iterdir())) - before


def test_shards_that_stay_open_are_a_share_of_the_files_a_process_may_open(tmp_path: Path):
    assert 0 < on_ranks(1, read_many, tmp_path)[0] <= 20
