"""Start entry points as a user does, in a process of their own; kill them where a test wants it."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from few_digits import few_digits
from late_imports import import_for
from ranks import forked

from darts_hpc.data.loading.batches import BatchSource

TINY = ["--dataset", "digits", "--image_size", "8", "--batch_size", "240", "--init_channels", "4", "--layers", "3"]
TINY += ["--epochs", "2", "--report_freq", "1", "--device", "cpu", "--no-tensorboard", "--memory_check", "off"]
FEW = ["--dataset", "folder", "--data", str(few_digits()), "--batch_size", "24"]
"""After TINY: a tenth of the images, in as many batches."""
SMALL_SEARCH = [*TINY, *FEW, "--image_size", "4", "--space", "s2"]
"""Two operations an edge: a quarter of the time of TINY, for what surrounds a search."""
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Run a Python of its own, which imports all anew: seconds. Where an entry is enough, see entry()."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, **SINGLE_THREAD, **environment},
    )


def entry(
    name: str, *flags: object, before: Callable[[], object] = lambda: None, **environment: str
) -> subprocess.CompletedProcess:
    """Run python -m darts_hpc.<name> with flags in a process forked from this one, in which before() was called."""

    import_for(name)

    def run() -> None:
        before()
        sys.argv = [name, *map(str, flags)]
        sys.modules.pop(f"darts_hpc.{name}", None)  # as in a fresh Python: it is __main__, and nothing else
        runpy.run_module(f"darts_hpc.{name}", run_name="__main__", alter_sys=True)

    return forked(run, **SINGLE_THREAD, **environment)


def entry_killed_at_batch(call: int, name: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    """Run an entry that gets a signal (KILL_SIGNAL, by default SIGKILL) at the given call for a batch.

    A batch is asked for in a step, or between two batches of validation.
    """
    number = signal.Signals[environment.pop("KILL_SIGNAL", "SIGKILL")]

    def count_batches() -> None:
        batch, calls = BatchSource.batch, [0]

        def counted(self, epoch, step):
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), number)
            return batch(self, epoch, step)

        BatchSource.batch = counted

    return entry(name, *flags, before=count_batches, **environment)


def records(folder: Path, name: str) -> bytes:
    """Return a record file of a run."""
    return (folder / f"{name}.jsonl").read_bytes()
