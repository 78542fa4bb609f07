"""The lock under which manifests and copies are made: one process at a time, and no file left behind."""

import signal
import time
from pathlib import Path

import pytest
import torch
from small_imagenet import started

from darts_hpc.data.imagenet.list.lock import locked
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.distributed.world import World

ENTRIES = 25


def enter_often(folder: Path) -> int:
    """Take turns with others; return how often another was inside too."""
    crowded = 0
    for _ in range(ENTRIES):
        with locked(folder / "lock"):
            try:
                (folder / "inside").touch(exist_ok=False)
            except FileExistsError:
                crowded += 1
            time.sleep(0.001)
            (folder / "inside").unlink(missing_ok=True)
    return crowded


def die_inside(folder: Path) -> int:
    with locked(folder / "lock"):
        signal.raise_signal(signal.SIGKILL)
    return 0


def test_one_process_is_inside_at_a_time_though_each_removes_the_file(tmp_path: Path):
    assert [wait() or 0 for wait in [started(enter_often, tmp_path) for _ in range(4)]] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_inside_keeps_nobody_out(tmp_path: Path):
    assert started(die_inside, tmp_path)() == -signal.SIGKILL
    assert enter_often(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_refused_data_folder_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="val"):
        open_manifest(tmp_path, None, World(torch.device("cpu")))
    assert sorted(tmp_path.rglob("*")) == before
