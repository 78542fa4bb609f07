"""One real Slurm for all tests here, or the reason why there is none."""

from collections.abc import Iterator

import pytest
from slurm import Cluster, why_not


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes with four CPUs each, up for the whole session."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no Slurm: {reason}")
    with Cluster() as cluster:
        yield cluster
