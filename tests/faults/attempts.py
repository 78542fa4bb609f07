"""Try a command as a user would, in a process of its own, and judge how it ended and what it left behind."""

import hashlib
import importlib
import os
import pkgutil
import resource
import runpy
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ranks import forked

import darts_hpc.commands
from darts_hpc.campaigns.executors import LocalExecutor
from darts_hpc.run.run import Run

for module in pkgutil.iter_modules(darts_hpc.commands.__path__):  # once, and not in each process
    importlib.import_module(f"darts_hpc.commands.{module.name}")

BEGAN = 77
"""Exit code of a run that was accepted, and came to its first epoch."""
MEMORY, FILE = 16 << 30, 1 << 30
"""Bytes of address space and of a file that a command gets: what asks for more is a fault of ours."""
SECONDS = 200
"""After which a command counts as one that hangs; the slowest takes three on a quiet machine."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DARTS_HPC_REQUEUE_FILE": ""}
QUIET = (0, 2, BEGAN, 129, 130, 138, 141, 143)
"""Exit codes of a command that knew what it did: done, refused, stopped by a signal, read no more."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended. code: as subprocess has it. said: stderr."""

    command: tuple[str, ...]
    code: int
    out: str
    said: str

    @property
    def refusals(self) -> list[str]:
        """Its lines that say what is wrong."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def problem(self) -> str:
        """What is bad about its end: "hang", "traceback", or "" for nothing."""
        if self.code == -signal.SIGALRM:
            return "hang"
        is_refused_badly = self.code == 2 and len(self.refusals) != 1
        if "Traceback (most recent call last)" in self.said or self.code not in QUIET or is_refused_badly:
            return "traceback"
        return ""


def attempt(
    command: tuple[str, ...],
    cwd: Path,
    *,
    before: Callable[[], object] = lambda: None,
    runs: bool = False,
    seconds: float = SECONDS,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Outcome:
    """Run an entry with flags in an empty folder; the first word is its name.

    A run ends at its first epoch, and a campaign at its first job.

    Args:
        before: what the process does first.
        runs: let a run come to its end.
        seconds: it gets.
    """

    def run() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        os.chdir(cwd)
        if not runs:
            Run.epochs = lambda self, state: _leave()
            LocalExecutor.submit = lambda self, job, number, running: _leave()
        before()
        sys.argv = [command[0], *command[1:]]
        module = f"darts_hpc.{command[0]}"
        sys.modules.pop(module, None)  # as in a fresh Python: it is __main__, and nothing else
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    done = forked(run, **environment)
    return Outcome(command, done.returncode, done.stdout, done.stderr)


def _leave() -> NoReturn:
    sys.stdout.flush()
    os._exit(BEGAN)


def contents(folder: Path) -> dict[str, str]:
    """Return what is in a folder, by relative path: kinds, and digests of files."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            kind = path.lstat().st_mode
            text = f"{stat.S_IFMT(kind):o}"
            if stat.S_ISREG(kind) and path.lstat().st_size < 1 << 24:
                text += hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = text
    return found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the paths that differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
