"""The log in a run folder, and the environment and command that it records."""

import importlib.metadata
import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from darts_hpc import strict_json
from darts_hpc.durable import write_atomically
from darts_hpc.user_files import list_folder

COMMANDS = "command.txt"
WRITTEN = ("config.yaml", "environment.json", "space.json", COMMANDS, "launch.json", "result.json")
WRITTEN += ("metrics.jsonl", "genotypes.jsonl", "performance.jsonl", "weights.pt", "alphas.pt")
"""Files of a run, beside its logs and checkpoints."""
PACKAGES = ("torch", "torchvision", "numpy", "tensorboard", "darts_hpc")


def check_files(folder: Path) -> None:
    """Raise ValueError, one line, where something else lies in the place of a file that a run writes in its folder."""
    for path in (*(folder / name for name in WRITTEN), *list_folder(folder, "log.rank*.txt")):
        if os.path.lexists(path) and not path.is_file():  # a link that leads in a circle is in the way, too
            raise ValueError(f"{path} is in the way; expected a file or nothing: remove it, or choose another --save")
    checkpoints = folder / "checkpoints"
    if not os.path.lexists(checkpoints):
        return
    try:
        probe = checkpoints / ".writing-probe"
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError as error:
        raise ValueError(
            f"no checkpoint can be written to {checkpoints} ({error.strerror}); expected a folder that this user may "
            "write to: correct that, or choose another --save"
        ) from None


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


def described(config_yaml: str, device: str, num_processes: int, space: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a run is, as texts by file name: configuration, machine, search space and command."""
    facts = {**environment(), "device": device, "processes": num_processes}
    texts = {"config.yaml": config_yaml, "environment.json": strict_json.dumps(facts, indent=1) + "\n"}
    if space is not None:
        texts["space.json"] = strict_json.dumps(space) + "\n"
    return {**texts, COMMANDS: command_line() + "\n"}


def write_description(folder: Path, texts: Mapping[str, str], only_missing: bool = False) -> None:
    """Write those texts, the command below the earlier ones; at the end of a run those that somebody removed."""
    for name, text in texts.items():
        if only_missing and (folder / name).exists():
            continue
        if name == COMMANDS:
            with (folder / name).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        else:
            write_atomically(folder / name, text.encode(errors="backslashreplace"))


@contextmanager
def logging_to(folder: Path, rank: int) -> Iterator[None]:
    """Log to log.rankN.txt, and on rank 0 to the terminal too, around a progress bar."""
    logger = logging.getLogger("darts_hpc")
    handlers: list[logging.Handler] = [
        LogFile(folder / f"log.rank{rank}.txt", delay=True, encoding="utf-8", errors="backslashreplace")
    ]
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


class LogFile(WatchedFileHandler):
    """Drops lines that a full disk does not take, instead of a traceback for each; makes a file that is gone anew."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that is possible."""
        with suppress(OSError):  # of a folder that is gone
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the line."""

    def close(self) -> None:
        """Close, and let go of what is still buffered and does not fit: it must not hide what ended the run."""
        with suppress(OSError):
            super().close()


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
