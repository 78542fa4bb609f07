"""What a campaign's process or Slurm job does: run one entry point, and pass on what asks it to stop."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

LAUNCHER = (
    "darts_hpc.distributed.torchrun",
    "--standalone",
    "--signals-to-handle",
    "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    "--shutdown-timeout",
    "300",
)
REQUEUE_FILE = "DARTS_HPC_REQUEUE_FILE"
"""Environment variable: where a run that was stopped, and is to go on later, leaves its mark."""


class RunEntry:
    """Run `python -m ARGUMENTS` and return its exit code; everything it prints goes to the log.

    submitit pickles it, calls it in the job, and calls `checkpoint` where Slurm is about to take the machine away.
    """

    def __init__(self, arguments: Sequence[str], log: Path, num_gpus: int, num_cpus: int):
        self.arguments, self.log, self.num_gpus, self.num_cpus = list(arguments), log, num_gpus, num_cpus
        self._child: subprocess.Popen | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}

    def __call__(self) -> int:
        launcher = (*LAUNCHER, "--nproc_per_node", str(self.num_gpus), "-m") if self.num_gpus > 1 else ()
        on_slurm = "SLURM_JOB_ID" in os.environ
        mark = stop_mark(self.log)
        mark.unlink(missing_ok=True)
        with self.log.open("a") as log:
            print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} on {os.uname().nodename}", file=log, flush=True)
            self._child = subprocess.Popen(
                [sys.executable, "-m", *launcher, *self.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": str(self.num_cpus), REQUEUE_FILE: str(mark)},
                start_new_session=True,  # a Ctrl-C reaches it through this process alone, so it counts it once
                preexec_fn=_ignore_submitits_signal,
            )
        if not on_slurm:  # Slurm signals every process of a job itself
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._pass_on)
        return self._child.wait()

    def checkpoint(self) -> Any:
        """Let the run save and stop, and return the job that goes on with it."""
        import submitit

        self.stop()
        return submitit.helpers.DelayedSubmission(RunEntry(self.arguments, self.log, self.num_gpus, self.num_cpus))

    def stop(self) -> None:
        """Ask the run to save and stop, once, and wait for it."""
        if self._child is None or self._child.returncode is not None:
            return
        # A signal handler calls this while __call__ waits, with Popen's lock in hand: Popen.wait would never return.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._child.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)


def stop_mark(log: Path) -> Path:
    """Return the file that a job leaves where it was asked to stop, and its run has saved: beside its log."""
    return log.with_suffix(".stopped")


def _ignore_submitits_signal() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm sends it to the whole job; only submitit's process answers
