"""The state of each job: read from its run folder, and from jobs/NAME.json, which lists its starts."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from darts_hpc import strict_json
from darts_hpc.campaigns.plan import Job
from darts_hpc.durable import write_atomically
from darts_hpc.run import reader
from darts_hpc.run.reader import Progress, read_progress
from darts_hpc.user_files import exists, read_json


@dataclass
class Attempt:
    """One start of a job. id: of the process or the Slurm job. end: "" while it runs, else how it ended."""

    executor: str
    id: str
    started: float
    gpus: list[int] = field(default_factory=list)
    end: str = ""


@dataclass
class Record:
    """The starts of one job. failures: in a row, since the campaign was last started by hand."""

    attempts: list[Attempt] = field(default_factory=list)
    failures: int = 0

    @property
    def running(self) -> Attempt | None:
        """The start without a recorded end."""
        return self.attempts[-1] if self.attempts and not self.attempts[-1].end else None


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job and its state. state: finished, running, ready, waiting, failed or blocked."""

    job: Job
    state: str
    progress: Progress | None
    record: Record

    @property
    def is_lost(self) -> bool:
        """Whether it failed, or needs what failed."""
        return self.state in ("failed", "blocked")


def read_record(folder: Path, job: Job) -> Record:
    """Read a job's starts. Raises ValueError, one line, when the file is damaged."""
    path = record_path(folder, job)
    if not exists(path):
        return Record()
    try:
        content = read_json(path)
        attempts = [Attempt(**attempt) for attempt in content["attempts"]]
        for attempt in attempts:
            if not re.fullmatch(r"[1-9]\d{0,18}", attempt.id):  # it is given to kill and to scancel
                raise ValueError(f"{attempt.id!r} is no job's number")
            if not isinstance(attempt.end, str) or not isinstance(attempt.gpus, list):
                raise ValueError("an attempt is not as a campaign writes it")
        if type(content["failures"]) is not int:
            raise ValueError("failures is no whole number")
        return Record(attempts, content["failures"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and its job starts anew") from None


def write_record(folder: Path, job: Job, record: Record) -> None:
    """Write a job's starts."""
    write_atomically(record_path(folder, job), (strict_json.dumps(asdict(record), indent=1) + "\n").encode())


def record_path(folder: Path, job: Job) -> Path:
    """Return the file with a job's starts."""
    return folder / "jobs" / f"{job.name}.json"


def log_path(folder: Path, job: Job) -> Path:
    """Return the file with what a job printed, over all its starts."""
    return folder / "jobs" / f"{job.name}.log"


def last_lines(folder: Path, job: Job, count: int = 5) -> list[str]:
    """Return the last lines that a job printed."""
    return reader.last_lines(log_path(folder, job), count)


def job_states(
    folder: Path, jobs: Sequence[Job], records: dict[str, Record], active: Collection[str], retries: int
) -> list[JobState]:
    """Return the state of each job, in the plan's order. active: names of the jobs that run or queue right now."""
    states: dict[str, JobState] = {}
    for job in jobs:
        record = records.get(job.name) or Record()
        progress = read_progress(job.folder(folder))
        before = [states[name].state for name in job.after]
        if progress is not None and progress.finished:
            state = "finished"
        elif job.name in active:
            state = "running"
        elif record.failures > retries:
            state = "failed"
        elif not job.is_open and all(each == "finished" for each in before):
            state = "ready"
        elif _is_blocked(job, before):
            state = "blocked"
        else:
            state = "waiting"
        states[job.name] = JobState(job=job, state=state, progress=progress, record=record)
    return list(states.values())


def _is_blocked(job: Job, before: Sequence[str]) -> bool:
    """Whether it can't run any more: a ranking goes on without the cells that failed, anything else does not."""
    lost = [state in ("failed", "blocked") for state in before]
    return bool(lost) and (all(lost) if job.is_open else any(lost))


def hours_unit(states: Sequence[JobState]) -> str:
    """Return what an hour of the jobs that began is an hour of."""
    on_gpus = any(each.progress.gpus for each in states if each.progress is not None)
    return "GPU hours" if on_gpus else "CPU job hours"
