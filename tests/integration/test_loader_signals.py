"""Signals reach a training's loader processes too, as schedulers send them to every process: the run is what stops."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_train_imagenet import NETWORK, make_photos

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long training with two loader processes, in a process group of its own, after a few steps.

    Its TMPDIR is too long for the path of a socket.
    """
    folder, photos = tmp_path, make_photos(tmp_path / "photos")
    (long := tmp_path / ("x" * 100)).mkdir()
    flags = ["--loader", "torchvision", "--data", photos, "--num_threads", 2, "--device", "cpu"]
    flags += [*NETWORK, "--image_size", 32, "--resize", 36, "--batch_size", 8, "--valid_batch_size", 8]
    flags += ["--epochs", 1000, "--report_freq", 1, "--no-tensorboard", "--save", folder / "run"]
    training = subprocess.Popen(
        [sys.executable, "-m", "darts_hpc.train_imagenet", *map(str, flags)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(long)},
        stderr=(folder / "stderr").open("w"),
        text=True,
        start_new_session=True,
    )
    metrics = folder / "run" / "metrics.jsonl"
    wait_until(lambda: training.poll() is not None or (metrics.exists() and metrics.read_text().count("step") > 3))
    assert training.poll() is None, (folder / "stderr").read_text()
    yield training
    for process in processes(training.pid):
        os.kill(process, signal.SIGKILL)


def processes(group: int) -> list[int]:
    """Return the processes of a group that still run."""
    rows = subprocess.run(["ps", "-eo", "pgid=,pid=,stat="], capture_output=True, text=True, check=True).stdout
    fields = [row.split() for row in rows.splitlines()]
    return [int(pid) for pgid, pid, state in fields if int(pgid) == group and not state.startswith("Z")]


def parent(process: int) -> int:
    """Return the process that started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def is_stopped(process: int) -> bool:
    """Whether a process has stopped at a SIGSTOP."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until(reached: Callable[[], object]) -> None:
    while not reached():  # a test that waits for too long is ended by pytest's own limit
        time.sleep(0.05)


def test_signals_to_all_processes_save_and_end_without_a_traceback(training, tmp_path):
    assert len(processes(training.pid)) >= 4  # the run, two loaders and what starts them
    loaders = [pid for pid in processes(training.pid) if parent(pid) not in (training.pid, os.getpid())]
    assert len(loaders) in (2, 4)  # after the first epoch, those of the validation too
    for loader in loaders:
        for number in SIGNALS:
            os.kill(loader, number)  # which die of none of them
    training.send_signal(signal.SIGSTOP)  # all come to it at once: the second of two far apart ends it without a save
    wait_until(lambda: is_stopped(training.pid))
    for number in SIGNALS:
        os.killpg(training.pid, number)
    training.send_signal(signal.SIGCONT)  # the loaders still have this step's batches to make
    stopped_by = {128 + number: number.name for number in SIGNALS}[training.wait()]
    said = (tmp_path / "stderr").read_text()
    assert f"stopped by {stopped_by}" in said and ", saved;" in said and "Traceback" not in said, said
    wait_until(lambda: processes(training.pid) == [])


def test_loaders_end_with_a_killed_training(training):
    training.kill()
    training.wait()
    wait_until(lambda: processes(training.pid) == [])
