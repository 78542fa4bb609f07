"""The folder of a run: its log and what it says about where it ran."""

import importlib.metadata
import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

PACKAGES = ("torch", "torchvision", "numpy", "tensorboard", "darts_hpc")


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


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", checkout, *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
