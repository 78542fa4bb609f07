"""The parts of make gpu: which benchmarks and entries each one runs, and for how long at most."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A program of a part: arguments of Python, run from the repository's root."""

    name: str
    argv: tuple[str, ...]
    budget_s: int
    """After so many seconds it is ended; what it printed is kept."""
    missing: str = ""
    """Why it can't run here, if so."""


def tests(quick: bool) -> list[Command]:
    """The tests that need a GPU; without one they are skipped."""
    return [Command("tests/gpu", ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"), 100)]


def search(quick: bool) -> list[Command]:
    """A search step: graph against eager, float32 against bfloat16, the 2018 structure."""
    return [Command("search_step", ("benchmarks/search_step.py", "--times_only", *["--quick"] * quick), 90)]


def train(quick: bool) -> list[Command]:
    """A training step on CIFAR's and on ImageNet's size: the forms and number formats of train_step.py."""
    return [Command("train_step", ("benchmarks/train_step.py", "--times_only", *["--quick"] * quick), 90)]


def memory(quick: bool) -> list[Command]:
    """What is planned for a step of a search and of a training, beside what is allocated."""
    script = ("benchmarks/memory_prediction.py", *["--quick"] * quick)
    return [Command("search", script, 50), Command("trainings", (*script, "--trainings"), 30)]


def entries(quick: bool) -> list[Command]:
    """200 real steps of each entry."""
    names = {"train_search": "", "train": "", "train_imagenet": "", "train_imagenet_dali": without_dali()}
    script = "benchmarks/gpu/entry_steps.py"
    return [Command(name, (script, name, *["--quick"] * quick), 35, missing) for name, missing in names.items()]


def loaders(quick: bool) -> list[Command]:
    """ImageNet's loaders on JPEGs made here."""
    return [Command("loader", ("benchmarks/loader.py", "--quick"), 40, without_dali())]


PARTS: dict[str, Callable[[bool], list[Command]]] = {
    "tests": tests,
    "search": search,
    "train": train,
    "memory": memory,
    "entries": entries,
    "loaders": loaders,
}
"""In the order in which they run. Their budgets are nine minutes together."""


def without_dali() -> str:
    """Return what is missing where DALI is not installed, else nothing."""
    try:
        found = importlib.util.find_spec("nvidia.dali")
    except ModuleNotFoundError:
        found = None
    return "" if found else "DALI is not installed: pip install 'darts_hpc[dali]'"
