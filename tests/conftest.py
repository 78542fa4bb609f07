"""Two test processes side by side, a thread each. A file's tests stay together, as do those that share a cluster."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; tests' own processes inherit it

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(TESTS)
        item.add_marker(pytest.mark.xdist_group("cluster" if path.parts[0] == "cluster" else path.as_posix()))
