"""The campaign's loop: start the jobs that are ready, watch those that run, until nothing is left to do."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from darts_hpc.campaigns.anytime import write_cell
from darts_hpc.campaigns.command import stop_mark
from darts_hpc.campaigns.executors import Executor, active_now, exit_code, make_executor
from darts_hpc.campaigns.plan import make_plan
from darts_hpc.campaigns.ranking import best_cells
from darts_hpc.campaigns.state import (
    JobState,
    job_states,
    last_lines,
    log_path,
    read_record,
    write_record,
)
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.distributed.launcher import STOPS
from darts_hpc.locks import is_locked
from darts_hpc.run.reader import read_progress
from darts_hpc.units import counted

CANCEL_PATIENCE_S = 90

log = logging.getLogger("darts_hpc")


def read_states(cfg: CampaignConfig, folder: Path, active: Callable[[dict], set[str]] | None = None) -> list[JobState]:
    """Return the state of every job by the campaign's files, with the full trainings of the cells now known."""
    best: dict[str, str] = {}
    while True:
        jobs = make_plan(cfg, folder, best)
        records = {job.name: read_record(folder, job) for job in jobs}
        running = {name: record.running for name, record in records.items() if record.running is not None}
        alive = active(running) if active is not None else active_now(folder, running)
        states = job_states(folder, jobs, records, alive, cfg.where.retries)
        found = best_cells(cfg, folder, states)
        if found == best:
            return states
        best = found


def run_campaign(cfg: CampaignConfig, folder: Path, executor: Executor) -> list[JobState]:
    """Run every job that is not finished yet; return what became of each. The caller holds the folder's lock.

    Raises KeyboardInterrupt on campaign cancel, as on Ctrl-C.
    """
    cancel_mark(folder).unlink(missing_ok=True)
    _reset_failures(cfg, folder)
    logged: dict[str, str] = {}
    while True:
        if cancel_mark(folder).exists():
            cancel_mark(folder).unlink()
            raise KeyboardInterrupt
        states = read_states(cfg, folder, executor.active)
        for each in states:
            _record_end(folder, each, cfg.where.retries)
        states = read_states(cfg, folder, executor.active)
        _log_changes(folder, states, logged)
        running = [each for each in states if each.state == "running"]
        ready = [each for each in states if each.state == "ready"]
        if not running and not ready:
            return states
        attempts = [each.record.running for each in running if each.record.running is not None]
        for each in ready[: max(0, executor.num_free(attempts))]:
            number = len(each.record.attempts)
            each.job.folder(folder).parent.mkdir(parents=True, exist_ok=True)
            if each.job.stage == "anytime":
                write_cell(folder, each.job)
            attempt = executor.submit(each.job, number, attempts)
            attempts.append(attempt)
            each.record.attempts.append(attempt)
            write_record(folder, each.job, each.record)
        time.sleep(cfg.where.poll_seconds)


def cancel_mark(folder: Path) -> Path:
    """Return the file that asks a running campaign, on whichever machine, to stop."""
    return folder / "jobs" / "cancel"


def stop_jobs(folder: Path, states: Sequence[JobState], executor: Executor, patience_s: float = 60) -> list[str]:
    """Ask running jobs to save and stop, and wait for them; return the names of those that still run."""
    running = {e.job.name: e.record.running for e in states if e.state == "running" and e.record.running is not None}
    executor.cancel(list(running.values()))
    deadline = time.monotonic() + patience_s
    while (left := sorted(executor.active(running))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def cancel_campaign(cfg: CampaignConfig, folder: Path) -> Iterator[str]:
    """Ask a campaign, and its jobs wherever they run, to save and stop; yield the outcome, line by line."""
    running = [each for each in read_states(cfg, folder) if each.state == "running"]
    cancel_mark(folder).touch()  # also for a campaign on another machine, whose lock can't be seen from here
    if is_locked(folder):  # it stops its jobs itself, and would start again what is stopped from here
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while is_locked(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        left = (
            "is still stopping its jobs"
            if is_locked(folder)
            else f"has stopped, and its {counted(len(running), 'job')}"
        )
        yield f"the campaign {left}; the same command goes on"
        return
    for name in sorted({each.record.attempts[-1].executor for each in running if each.record.attempts}):
        executor = make_executor(replace(cfg, where=replace(cfg.where, executor=name)), folder, num_gpus=0)
        own = [each for each in running if each.record.attempts[-1].executor == name]
        left = stop_jobs(folder, own, executor)
        yield f"{counted(len(own) - len(left), 'job')} stopped" + (f", still saving: {', '.join(left)}" if left else "")
    if not running:
        yield "nothing runs"


def _reset_failures(cfg: CampaignConfig, folder: Path) -> None:
    """Set the jobs' failures to 0: whoever starts the campaign again has fixed something."""
    for each in read_states(cfg, folder):
        if each.record.failures:
            each.record.failures = 0
            write_record(folder, each.job, each.record)


def _record_end(folder: Path, each: JobState, retries: int) -> None:
    """Record how a job's latest start ended, and whether that counts as a failure."""
    attempt = each.record.running
    if attempt is None or each.state == "running":
        return
    number = len(each.record.attempts) - 1
    code = exit_code(folder, each.job, number, attempt)
    if each.state == "finished":
        attempt.end, each.record.failures = "finished", 0
    elif (
        code is not None and code > 0 and code - 128 not in STOPS and not stop_mark(log_path(folder, each.job)).exists()
    ):
        attempt.end = f"failed, exit code {code}"
        each.record.failures += 1
    else:  # it was asked to stop, killed, or lost with its machine; a failure only if it made no progress
        progress = read_progress(each.job.folder(folder))
        steps = progress.steps if progress is not None else 0
        before = [int(a.end.split()[-2]) for a in each.record.attempts[:-1] if a.end.startswith("interrupted")]
        attempt.end = f"interrupted after {steps} steps"
        each.record.failures = each.record.failures + 1 if steps <= max(before, default=0) else 0
    write_record(folder, each.job, each.record)
    if each.record.failures > retries:
        log.error("%s failed %d times; its log ends:", each.job.name, each.record.failures)
        for line in last_lines(folder, each.job):
            log.error("    %s", line)
    elif attempt.end != "finished":
        log.warning("%s: %s; starting it again", each.job.name, attempt.end)


def _log_changes(folder: Path, states: Sequence[JobState], logged: dict[str, str]) -> None:
    """Log each job's changes of state, once."""
    for each in states:
        if each.state in ("running", "finished", "failed", "blocked") and logged.get(each.job.name) != each.state:
            accuracy = each.progress.accuracy if each.progress is not None else None
            words = f", {accuracy:.2f} %" if each.state == "finished" and accuracy is not None else ""
            log.info("%s is %s%s", each.job.name, each.state, words)
            logged[each.job.name] = each.state
