"""Two plain torchruns of one command, side by side: each goes on with its own run, and a stop is not retried."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import own_port
from run_entries import TINY

pytestmark = pytest.mark.slow
COMMAND = ["-m", "darts_hpc.train", *TINY, "--arch", "DARTS_V1", "--epochs", "1000", "--checkpoint_freq", "1"]


def wait_until(reached: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def worker_of(torchrun: subprocess.Popen) -> int:
    return int(Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()[0])


def start_torchrun(port: int, folder: Path, log: Path) -> subprocess.Popen:
    torchrun = ["-m", "torch.distributed.run", "--max-restarts", "2", "--master-port", str(port)]
    return subprocess.Popen(
        [sys.executable, *torchrun, *COMMAND],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=log.open("w"),
    )


def test_a_killed_worker_goes_on_with_its_own_run_and_a_stopped_one_is_not_started_again(tmp_path):
    logs = [tmp_path / "log0", tmp_path / "log1"]
    with own_port() as first, own_port() as second:  # in the same second, for all that a name tells
        launches = [start_torchrun(port, tmp_path, log) for port, log in zip((first, second), logs, strict=True)]
        try:
            wait_until(lambda: all("step 3" in log.read_text() for log in logs), 240)
            os.kill(worker_of(launches[0]), signal.SIGKILL)
            wait_until(lambda: "going on in epoch" in logs[0].read_text(), 240)
            os.kill(worker_of(launches[0]), signal.SIGUSR1)  # which this torchrun does not handle itself
            launches[1].terminate()
            ends = [launch.wait(timeout=240) for launch in launches]
        finally:
            for launch in launches:
                launch.kill()
    folders = [re.findall(r"run folder: (\S+)", log.read_text()) for log in logs]
    assert folders[0] == folders[0][:1] * 2 and len(folders[1]) == 1 and folders[0][0] != folders[1][0]
    assert len(list(tmp_path.glob("runs/*"))) == 2
    assert "stopped by SIGUSR1" in logs[0].read_text() and "stopped by SIGTERM" in logs[1].read_text()
    assert ends == [1, 1]  # torch's own torchrun knows no other failure; darts_hpc.distributed.torchrun does
