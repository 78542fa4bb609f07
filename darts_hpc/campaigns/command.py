"""What a campaign's process or Slurm job does: run one entry point, and pass on signals to stop.

    python -m darts_hpc.campaigns.command RESULT LOG SCHEDULER NUM_GPUS NUM_CPUS ARGUMENT ...

It leaves the exit code as JSON in RESULT/JOB.json. submitit would pickle the function and its result into that folder,
and whoever can write there could have any code run.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from darts_hpc import strict_json
from darts_hpc.durable import write_atomically
from darts_hpc.run.requeue import REQUEUE_FILE
from darts_hpc.user_files import read_json

LAUNCHER = ("darts_hpc.distributed.torchrun", "--standalone")
JOB_ID = {"local": "SUBMITIT_LOCAL_JOB_ID", "slurm": "SLURM_JOB_ID"}
"""Scheduler -> environment variable with submitit's id of the job."""


class RunEntry:
    """Run `python -m ARGUMENTS`; everything it prints goes to the log."""

    def __init__(self, arguments: Sequence[str], log: Path, scheduler: str, num_gpus: int, num_cpus: int):
        self.arguments, self.log, self.scheduler = list(arguments), log, scheduler
        self.num_gpus, self.num_cpus = num_gpus, num_cpus
        self._child: subprocess.Popen | None = None

    def command(self, results: Path) -> list[str]:
        """Return the command that does this in a process of its own, and leaves its exit code in a folder."""
        numbers = (str(self.num_gpus), str(self.num_cpus))
        module = ("-u", "-m", "darts_hpc.campaigns.command")
        return [sys.executable, *module, str(results), str(self.log), self.scheduler, *numbers, *self.arguments]

    def run(self) -> int:
        """Run it to its end, and return its exit code."""
        launcher = (*LAUNCHER, "--nproc_per_node", str(self.num_gpus), "-m") if self.num_gpus > 1 else ()
        if self.scheduler == "slurm":  # which signals every process of a job itself
            signal.signal(signal.SIGTERM, lambda *_: None)
            signal.signal(signal.SIGUSR2, self._requeue)
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
                preexec_fn=_ignore_slurms_signal,
            )
        if self.scheduler == "local":
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._pass_on)
        return self._child.wait()

    def _requeue(self, number: int, frame: FrameType | None) -> None:
        """Let the run save and stop, and have Slurm start this job again: it is about to take the machine away."""
        self._stop()
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], timeout=60, check=True)
        sys.exit(128 + number)

    def _stop(self) -> None:
        """Ask the run to save and stop, once, and wait for it."""
        if self._child is None or self._child.returncode is not None:
            return
        # A signal handler calls this while `run` waits, with Popen's lock in hand: Popen.wait would never return.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._child.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)


def stop_mark(log: Path) -> Path:
    """Return the file, beside a job's log, by which its run marks that it was asked to stop, and has saved."""
    return log.with_suffix(".stopped")


def write_result(results: Path, job_id: str, code: int) -> None:
    """Write a job's exit code."""
    write_atomically(results / f"{job_id}.json", strict_json.dumps({"exit_code": code}).encode())


def read_result(results: Path, job_id: str) -> int | None:
    """Return a job's exit code; None where it was lost with its machine or killed."""
    try:
        code = read_json(results / f"{job_id}.json")["exit_code"]
    except (ValueError, KeyError):
        return None
    return code if type(code) is int else None


def _ignore_slurms_signal() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # sent to the whole job; only this process answers


if __name__ == "__main__":
    results, log, scheduler, num_gpus, num_cpus, *arguments = sys.argv[1:]
    code = RunEntry(arguments, Path(log), scheduler, int(num_gpus), int(num_cpus)).run()
    write_result(Path(results), os.environ[JOB_ID[scheduler]], code)
