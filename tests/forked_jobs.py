"""Jobs of a local campaign as forks of its process: torch is imported once, not once per job. Without submitit."""

import os
import pickle
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence

from few_digits import few_digits
from late_imports import import_for
from ranks import forked

from darts_hpc.campaigns.estimate import published_rates
from darts_hpc.campaigns.executors import LocalExecutor, attempt_folder
from darts_hpc.campaigns.plan import Job
from darts_hpc.campaigns.state import Attempt, log_path
from darts_hpc.commands import time_steps
from darts_hpc.reporting import charts

IMAGES = f"--dataset folder --data {few_digits()} --batch_size 24"
TINY = ("--config", "configs/campaign/tiny.yaml", "--search_seeds", "0", "1", "--select_epochs", "1")
SEARCH_FLAGS = f"{IMAGES} --memory_check off --supernet plain --space s2"
TINY += ("--search_flags", SEARCH_FLAGS)
TRAIN_FLAGS = f"{IMAGES} --memory_check off --image_size 4"
TINY += ("--train_flags", f"{TRAIN_FLAGS} --epochs 2")
"""Flags of a campaign on a tenth of the digits, whose cells choose among two operations."""


class ForkedJob:
    """What the executor wants to know of a job's process."""

    def __init__(self, process: int):
        self.process, self.code = process, None

    def poll(self) -> int | None:
        if self.code is None and os.waitpid(self.process, os.WNOHANG)[0]:
            self.code = 0
        return self.code


def draw_nothing() -> None:
    """Write reports with empty pictures: to draw them takes as long as all runs of a tiny campaign."""
    charts.to_svg = lambda figure: '<svg xmlns="http://www.w3.org/2000/svg"/>'
    charts.to_pdf = lambda figure: b""


def prepare_estimates() -> None:
    """Measure the published runs' networks here, and not in each process that estimates what a campaign takes."""
    published_rates()


def estimate_quickly() -> None:
    """Time no more than the two steps that are the least."""
    time_steps.ENOUGH = 0.0


def campaign_in_forks(*flags: object, pictures: bool = False) -> subprocess.CompletedProcess[str]:
    """Run python -m darts_hpc.campaign with flags, it and its jobs in forks of this process."""
    import_for("campaign")

    def run() -> None:
        if not pictures:
            draw_nothing()
        LocalExecutor.submit = _submit  # pyright: ignore[reportAttributeAccessIssue]
        sys.argv = ["campaign", *map(str, flags)]
        sys.modules.pop("darts_hpc.campaign", None)
        runpy.run_module("darts_hpc.campaign", run_name="__main__", alter_sys=True)

    return forked(run, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")


def _submit(self: LocalExecutor, job: Job, number: int, running: Sequence[Attempt]) -> Attempt:
    results = attempt_folder(self.folder, job, number)
    results.mkdir(parents=True, exist_ok=True)
    process = os.fork()
    if process:
        self._processes[str(process)] = ForkedJob(process)  # pyright: ignore[reportArgumentType]
        return Attempt(self.name, str(process), time.time())
    code = 1
    try:
        with log_path(self.folder, job).open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        module, *flags = job.command(self.folder)
        sys.argv = [module, *flags]
        sys.modules.pop(module, None)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stderr.flush()
        (results / f"{os.getpid()}_0_result.pkl").write_bytes(pickle.dumps(("success", code)))
        os._exit(0)
