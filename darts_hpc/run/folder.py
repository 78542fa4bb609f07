"""The folder of a run: its name, its log and what it says about where it ran."""

import glob
import importlib.metadata
import logging
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from darts_hpc.locks import is_locked

RUNS = Path("runs")
PACKAGES = ("torch", "torchvision", "numpy", "tensorboard", "darts_hpc")


def choose_run_folder(
    entry: str, save: str, resume: str, job: str, runs: Path = RUNS, restarted_since: float | None = None
) -> Path:
    """Return the run folder that --save and --resume ask for; it may not exist yet.

    A name gives runs/<entry>-<name>-<time>-<job>/; with a path separator in it, `save` is the folder. resume: "none",
    "auto" (the newest run of that name that has a checkpoint, if any) or a run folder. A job that was
    restarted, and launched at `restarted_since`, goes on with its own run, whether that was asked for or not.

    Raises ValueError when a run is in the way, or there is nothing to resume.
    """
    if resume not in ("none", "auto"):
        folder = Path(resume)
        if not has_checkpoint(folder):
            raise ValueError(f"--resume {resume}: no checkpoint there; give a run folder, or auto")
        return folder
    if os.sep in save:
        folder = Path(save)
        if (
            resume == "none"
            and not _is_own(folder, restarted_since)
            and ((folder / "config.yaml").exists() or has_checkpoint(folder))
        ):
            raise ValueError(f"--save {save} holds a run already; add --resume auto to go on with it, or name another")
        return folder
    if restarted_since is not None and resume == "none":
        own = sorted(runs.glob(f"{glob.escape(f'{entry}-{save}')}-????????-??????-{job}"))
        if own and _is_own(own[-1], restarted_since) and not (own[-1] / "result.json").exists():
            return own[-1]
    if resume == "auto":
        name = re.compile(rf"{re.escape(entry)}-{re.escape(save)}-\d{{8}}-\d{{6}}-[^-]+")
        earlier = sorted((path for path in runs.glob("*") if name.fullmatch(path.name)), reverse=True)
        for folder in earlier:  # newest first: the name sorts by time
            if has_checkpoint(folder) and not is_locked(folder):
                return folder
    return runs / f"{entry}-{save}-{time.strftime('%Y%m%d-%H%M%S')}-{job}"


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in this folder can be continued."""
    return any(folder.glob("checkpoints/step-*"))


def environment() -> dict[str, object]:
    """Return what the run's numbers may depend on: versions, machine, GPU and the checkout's commit."""
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        facts["commit"] = _git(checkout, "rev-parse", "HEAD")
        facts["changed_files"] = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return facts


def command_line() -> str:
    """Return the command that started this process, ready to paste."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", spec.name] if spec else ["python", sys.argv[0]]
    return shlex.join([*start, *sys.argv[1:]])


@contextmanager
def logging_to(folder: Path, rank: int) -> Iterator[None]:
    """Log to log.rankN.txt, and on rank 0 to the terminal too, around a progress bar."""
    logger = logging.getLogger("darts_hpc")
    handlers: list[logging.Handler] = [LogFile(folder / f"log.rank{rank}.txt")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if rank == 0:
        handlers.append(TerminalHandler())
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before[0])
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class LogFile(logging.FileHandler):
    """Drops lines that a full disk does not take, instead of a traceback on the terminal for each."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let go."""


class TerminalHandler(logging.Handler):
    """Writes above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line to stderr."""
        tqdm.write(self.format(record), file=sys.stderr)


def _is_own(folder: Path, restarted_since: float | None) -> bool:
    """Whether a restarted job has begun or gone on with the run there; another launch may share the job's name."""
    config = folder / "config.yaml"  # written at every start
    return restarted_since is not None and config.exists() and config.stat().st_mtime >= restarted_since


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", checkout, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
