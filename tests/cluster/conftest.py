"""One real Slurm for all tests here, or the reason why there is none."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from jobs import copy_checkout, outcome, run_in_forks
from slurm_cluster import Cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes with four CPUs each, up for the whole session."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no Slurm: {reason}")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout at a path with a space in it."""
    return copy_checkout(tmp_path_factory.mktemp("a user's") / "check out")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """What a run comes to without a launcher, with processes that nothing disturbs; each is run once."""
    outcomes: dict[object, dict[str, str]] = {}

    def undisturbed(command: Sequence[str], size: int) -> dict[str, str]:
        if (command, size) not in outcomes:
            folder = tmp_path_factory.mktemp(command[0]) / "run"
            run_in_forks(command, size, "--save", folder)
            outcomes[command, size] = outcome(folder)
        return outcomes[command, size]

    return undisturbed
