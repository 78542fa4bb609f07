"""Where jobs run: processes of this machine or Slurm, both through submitit, which only this file imports.

submitit starts and submits commands here, not pickled functions: see campaigns/command.py.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from darts_hpc.campaigns.command import RunEntry, read_result
from darts_hpc.campaigns.plan import Job
from darts_hpc.campaigns.state import Attempt, log_path
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.locks import is_locked

FOREVER_MIN = 60 * 24 * 365
SECONDS_TO_SAVE = 120


class Executor(Protocol):
    """Starts jobs and knows which of them still run."""

    name: str

    def num_free(self, running: Sequence[Attempt]) -> int:
        """Return how many more jobs may start besides those that run."""
        ...

    def submit(self, job: Job, number: int, running: Sequence[Attempt]) -> Attempt:
        """Start a job for the number-th time."""
        ...

    def active(self, attempts: Mapping[str, Attempt]) -> set[str]:
        """Return the names of the jobs that run or queue. attempts: job name -> its newest start."""
        ...

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Ask jobs to save and stop."""
        ...


class LocalExecutor:
    """Processes of this machine, one per GPU (or --jobs at once)."""

    name = "local"

    def __init__(self, cfg: CampaignConfig, folder: Path, num_gpus: int):
        self.cfg, self.folder = cfg, folder
        self.num_gpus = num_gpus if cfg.size.device != "cpu" else 0
        per_job = min(cfg.size.gpus_per_job, self.num_gpus)
        by_machine = self.num_gpus // per_job if per_job else (os.cpu_count() or 1) // cfg.size.cpus_per_job
        self.per_job, self.slots = per_job, cfg.where.jobs or max(1, by_machine)
        if per_job and self.slots * per_job > self.num_gpus:
            raise ValueError(
                f"--jobs {self.slots} with {per_job} GPUs each: expected at most {by_machine}, as there are {num_gpus}"
            )
        self._processes: dict[str, subprocess.Popen] = {}

    def num_free(self, running: Sequence[Attempt]) -> int:
        """Return how many more jobs may start besides those that run."""
        return self.slots - len(running)

    def submit(self, job: Job, number: int, running: Sequence[Attempt]) -> Attempt:
        """Start a job for the number-th time, on the first free GPUs."""
        taken = {gpu for attempt in running for gpu in attempt.gpus}
        gpus = [gpu for gpu in range(self.num_gpus) if gpu not in taken][: self.per_job]
        results = attempt_folder(self.folder, job, number)
        executor = _submitit().LocalExecutor(results)
        executor.update_parameters(timeout_min=FOREVER_MIN)
        run = RunEntry(
            job.command(self.folder), log_path(self.folder, job), "local", max(1, len(gpus)), self.cfg.size.cpus_per_job
        )
        visible = f"CUDA_VISIBLE_DEVICES={','.join(gpu_names(gpus))}"
        handle = executor._submit_command(shlex.join(["env", visible, *run.command(results)]))
        self._processes[handle.job_id] = handle._process
        return Attempt(self.name, handle.job_id, time.time(), gpus)

    def active(self, attempts: Mapping[str, Attempt]) -> set[str]:
        """Return the names of jobs whose process, or run, is alive, even if an earlier campaign started them."""
        return {name for name, attempt in attempts.items() if self._lives(name, attempt)}

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Ask jobs to save and stop."""
        for attempt in attempts:
            if _is_submitit(attempt.id, self.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(attempt.id), signal.SIGTERM)

    def _lives(self, name: str, attempt: Attempt) -> bool:
        process = self._processes.get(attempt.id)
        alive = process.poll() is None if process is not None else _is_submitit(attempt.id, self.folder)
        return alive or is_locked(self.folder / "runs" / name)  # the run outlives a killed submitit by its last save


class SlurmExecutor:
    """Jobs of Slurm. Slurm's queue lists those that are alive, so no accounting is needed."""

    name = "slurm"

    def __init__(self, cfg: CampaignConfig, folder: Path):
        self.cfg, self.folder = cfg, folder
        for program in ("sbatch", "squeue", "srun"):
            if shutil.which(program) is None:
                raise ValueError(f"--executor slurm: no {program} here; log in to a node of the cluster, or use local")
        self._queue, self._known = read_queue(), set[str]()

    def num_free(self, running: Sequence[Attempt]) -> int:
        """Return how many more jobs may start: all of them, where --jobs sets no limit."""
        return self.cfg.where.jobs - len(running) if self.cfg.where.jobs else 10**6

    def submit(self, job: Job, number: int, running: Sequence[Attempt]) -> Attempt:
        """Submit a job for the number-th time."""
        size = self.cfg.size
        num_gpus = 0 if size.device == "cpu" else size.gpus_per_job
        results = attempt_folder(self.folder, job, number)
        results.mkdir(parents=True, exist_ok=True)
        executor = _submitit().SlurmExecutor(results)
        resources = {} if num_gpus == 0 else {"gpus_per_node": num_gpus}
        executor.update_parameters(
            job_name=job.name,
            time=max(1, round(self.cfg.where.hours * 60)),
            cpus_per_task=size.cpus_per_job * max(1, num_gpus),
            signal_delay_s=SECONDS_TO_SAVE,
            additional_parameters={**sbatch_flags(self.cfg.where.slurm_flags), "requeue": True},
            setup=_site_setup(),
            **resources,
        )
        run = RunEntry(
            job.command(self.folder), log_path(self.folder, job), "slurm", max(1, num_gpus), size.cpus_per_job
        )
        script = executor._make_submission_file_text(shlex.join(run.command(results)), "")
        return Attempt(self.name, _sbatch(script, job.name), time.time())

    def active(self, attempts: Mapping[str, Attempt]) -> set[str]:
        """Return the names of the jobs in Slurm's queue, by its last answer while it gives none."""
        with contextlib.suppress(ValueError):
            self._queue = read_queue()
            self._known = {attempt.id for attempt in attempts.values()}
        return {name for name, own in attempts.items() if own.id in self._queue or own.id not in self._known}

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Take jobs out of the queue; one that runs saves first."""
        for attempt in attempts:
            subprocess.run(["scancel", attempt.id], capture_output=True, check=False)


def make_executor(cfg: CampaignConfig, folder: Path, num_gpus: int) -> Executor:
    """Return the executor for --executor. Raises ValueError when submitit, a GPU or Slurm is missing."""
    _submitit()
    if cfg.where.executor == "slurm":
        return SlurmExecutor(cfg, folder)
    return LocalExecutor(cfg, folder, num_gpus)


def num_gpus() -> int:
    """Return how many GPUs this machine shows."""
    import torch  # slow, and not needed to look at a campaign

    return torch.cuda.device_count()


def active_now(folder: Path, attempts: Mapping[str, Attempt]) -> set[str]:
    """Return which jobs run or queue, for a process that did not start them, such as campaign status."""
    local = {n for n, a in attempts.items() if a.executor == "local" and _is_submitit(a.id, folder)}
    local |= {name for name, a in attempts.items() if a.executor == "local" and is_locked(folder / "runs" / name)}
    slurm = {name: attempt for name, attempt in attempts.items() if attempt.executor == "slurm"}
    if not slurm:
        return local
    try:
        queue = read_queue()
    except ValueError:
        return local | set(slurm)
    return local | {name for name, attempt in slurm.items() if attempt.id in queue}


def exit_code(folder: Path, job: Job, number: int, attempt: Attempt) -> int | None:
    """Return the exit code of a job's number-th start; None where it was lost with its machine or killed."""
    return read_result(attempt_folder(folder, job, number), attempt.id)


def attempt_folder(folder: Path, job: Job, number: int) -> Path:
    """Return submitit's folder of a job's number-th start: one each, because process ids are reused."""
    return folder / "jobs" / "submitit" / f"{job.name}.{number}"


def read_queue() -> set[str]:
    """Return the ids of this user's jobs that wait or run. Raises ValueError, one line, when Slurm does not answer."""
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%A"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        raise ValueError("no squeue here; log in to a node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise ValueError("--executor slurm: Slurm does not answer (squeue waited a minute)") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"--executor slurm: Slurm does not answer: {_last_line(error.stderr)}") from None
    return set(done.stdout.split())


def sbatch_flags(text: str) -> dict[str, Any]:
    """Read "--partition=gpu --mem 32G --exclusive" as names and values. Raises ValueError for anything else."""
    flags: dict[str, Any] = {}
    name = ""
    for word in shlex.split(text):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flags[name] = value if equals else True
        elif name and flags[name] is True:
            flags[name] = word
        else:
            raise ValueError(f"--slurm_flags {text!r}: expected flags of sbatch such as --partition=gpu, not {word!r}")
    return flags


def gpu_names(gpus: Sequence[int], env: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names in CUDA_VISIBLE_DEVICES of GPUs that this process numbers from 0."""
    own = [name for name in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return [own[gpu] if own else str(gpu) for gpu in gpus]


def _sbatch(script: str, name: str) -> str:
    """Submit a script, and return its job's id. It goes through a pipe, so that nobody can replace it."""
    with _without_own_job():
        done = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"Slurm refused {name}: {_last_line(done.stderr)}")
    return done.stdout.strip().partition(";")[0]


def _is_submitit(process: str, folder: Path) -> bool:
    """Whether a process id is, at present, of a process that runs a job of this campaign."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return f"{folder / 'jobs'}{os.sep}" in command


@contextlib.contextmanager
def _without_own_job() -> Iterator[None]:
    """Hide that the campaign itself may run in a Slurm job, whose limits sbatch would hand on to the new one."""
    own = {name: os.environ.pop(name) for name in list(os.environ) if re.match(r"SLURM_(?!CONF$)", name)}
    try:
        yield
    finally:
        os.environ.update(own)


def _site_setup() -> list[str]:
    site = Path(__file__).parents[2] / "slurm" / "site.sh"
    return [f". {shlex.quote(str(site))}"] if site.is_file() else []


def _last_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[-1]


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ValueError("campaigns need submitit; install it with: pip install 'darts_hpc[campaign]'") from None
    return submitit
