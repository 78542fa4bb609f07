"""Start entry points as a user does, in a process of their own; kill them where a test wants it."""

import os
import subprocess
import sys
from pathlib import Path

TINY = ["--dataset", "digits", "--image_size", "8", "--batch_size", "240", "--init_channels", "4", "--layers", "3"]
TINY += ["--epochs", "2", "--report_freq", "1", "--device", "cpu", "--no-tensorboard"]

# Runs an entry and kills it at the given call of BatchSource.batch: in a step, or between two batches of validation.
KILL_AT_BATCH = """
import os, runpy, signal, sys
from darts_hpc.data.loading.batches import BatchSource
kill_at, entry, batch, calls = int(sys.argv[1]), sys.argv[2], BatchSource.batch, [0]
def counted(self, epoch, step):
    calls[0] += 1
    if calls[0] == kill_at:
        os.kill(os.getpid(), getattr(signal, os.environ.get("KILL_SIGNAL", "SIGKILL")))
    return batch(self, epoch, step)
BatchSource.batch = counted
sys.argv = [entry, *sys.argv[3:]]
runpy.run_module(f"darts_hpc.{entry}", run_name="__main__", alter_sys=True)
"""


def start(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    single_thread = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **single_thread, **environment},
    )


def entry(name: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    """Run python -m darts_hpc.<name> with flags."""
    return start(["-m", f"darts_hpc.{name}", *map(str, flags)], **environment)


def entry_killed_at_batch(call: int, name: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    """Run an entry that gets a signal (KILL_SIGNAL, by default SIGKILL) at the given call for a batch."""
    return start(["-c", KILL_AT_BATCH, str(call), name, *map(str, flags)], **environment)


def records(folder: Path, name: str) -> bytes:
    """Return a record file of a run."""
    return (folder / f"{name}.jsonl").read_bytes()
