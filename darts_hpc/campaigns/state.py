"""What became of each job: read from its run folder, and from jobs/NAME.json, which lists its starts."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darts_hpc import strict_json
from darts_hpc.campaigns.plan import Job
from darts_hpc.durable import write_atomically

TAIL_BYTES = 1 << 16


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
        """The start whose end has not been seen."""
        return self.attempts[-1] if self.attempts and not self.attempts[-1].end else None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come. accuracy: in percent, of its last epoch, on what judges it. gpus: how many it runs on."""

    finished: bool
    epoch: int
    epochs: int
    accuracy: float | None
    seconds: float
    steps: int
    gpus: int = 0

    @property
    def device_seconds(self) -> float:
        """Seconds of all its GPUs together; on CPUs, of the job."""
        return self.seconds * max(1, self.gpus)

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far; None before the first epoch."""
        return self.seconds / self.epoch * (self.epochs - self.epoch) if self.epoch else None


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job and what became of it. state: finished, running, ready, waiting, failed or blocked."""

    job: Job
    state: str
    progress: Progress | None
    record: Record


def read_record(folder: Path, job: Job) -> Record:
    """Read a job's starts. Raises ValueError, one line, when the file is damaged."""
    path = record_path(folder, job)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record([Attempt(**attempt) for attempt in content["attempts"]], content["failures"])
    except FileNotFoundError:
        return Record()
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
    lines = _tail(log_path(folder, job)).splitlines()
    return [line for line in lines if line.strip()][-count:]


def job_states(
    folder: Path, jobs: Sequence[Job], records: dict[str, Record], active: Collection[str], retries: int
) -> list[JobState]:
    """Return what became of each job, in the plan's order. active: names of the jobs that run or queue right now."""
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


def read_progress(folder: Path) -> Progress | None:
    """Read how far the run in a folder has come; None when it has not started. It reads the ends of files only."""
    if not (folder / "config.yaml").is_file():
        return None
    result = _result(folder)
    if result is not None:
        return Progress(
            finished=True,
            epoch=result["epochs"],
            epochs=result["epochs"],
            accuracy=accuracy_of(result["final"]),
            seconds=result["seconds"],
            steps=0,
            gpus=_gpus(folder),
        )
    records = _last_records(folder / "metrics.jsonl")
    epochs = [record for record in records if record.get("event") == "epoch"]
    seconds = [
        r["performance/seconds"] for r in _last_records(folder / "performance.jsonl") if "performance/seconds" in r
    ]
    return Progress(
        finished=False,
        epoch=epochs[-1]["epoch"] + 1 if epochs else records[-1]["epoch"] if records else 0,
        epochs=_epochs(folder / "config.yaml"),
        accuracy=accuracy_of(epochs[-1]) if epochs else None,
        seconds=seconds[-1] if seconds else 0.0,
        steps=records[-1]["step"] if records else 0,
        gpus=_gpus(folder),
    )


def accuracy_of(numbers: dict[str, Any]) -> float | None:
    """Return the accuracy that judges: on test images where there are any, else on the held-out ones."""
    value = numbers.get("test/accuracy", numbers.get("valid/accuracy"))
    return value if value is not None and math.isfinite(value) else None


def _result(folder: Path) -> dict[str, Any] | None:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{folder / 'result.json'} is damaged ({error}); remove it, and the run ends anew") from None
    return result if result.get("status") == "finished" else None


def _gpus(folder: Path) -> int:
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        return facts["processes"] if facts["device"].startswith("cuda") else 0
    except (OSError, ValueError, KeyError):  # a run that is just starting
        return 0


def _epochs(path: Path) -> int:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("epochs: ")]
    return int(lines[-1].split()[1]) if lines else 0


def _last_records(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in _tail(path).split("\n")[:-1]:  # a last line without its end is still being written
        try:
            records.append(json.loads(line))
        except ValueError:
            continue  # the first line of a tail is cut
    return [record for record in records if isinstance(record, dict)]


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
