"""Test processes side by side have a thread each; the tests of a file stay in one process, the slowest files first."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from few_digits import few_digits

from darts_hpc.pictures import figures

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of some hundred processes compiles the package for itself
sys.dont_write_bytecode = False
few_digits()  # before test processes are started: one folder for all
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the processes that tests start inherit it

gc.set_threshold(100_000, 50, 100)  # torch's graphs and modules are looked through for garbage for a fifth of the time

# Slurm's wait half of the time: they go to one of three processes, while two compute. A process gets its next file when
# two tests are left of the one before, as many as the first has: it gets the fourth. Then what computes for longest.
FIRST = (
    *("cluster/test_campaign_on_slurm", "integration/test_golden_family", "integration/test_campaign"),
    *("cluster/test_preemption", "integration/test_family_search", "unit/memory/test_predict"),
    *("integration/test_memory", "integration/test_resume", "cluster/test_launchers"),
    *("unit/models/supernet/test_fused", "integration/test_docs", "faults/test_table"),
    *("integration/test_train_imagenet", "integration/test_main_job", "integration/test_data_parallel_search"),
    *("integration/test_api", "integration/test_search_on_imagenet", "unit/models/test_costs"),
    *("integration/test_lost_terminal", "integration/test_disk_faults", "integration/test_shared_memory"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first, so that no process is left with one of them at the end."""
    places = {f"tests/{name}.py": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give whole files to test processes, as --dist loadfile does, and outlive a process that crashes.

    xdist 3.8 gives a new process the test that the last one died of, and files that have no test left: the process
    reports nothing, so it gets no further work, and pytest waits for ever.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def remove_node(self, node: Any) -> str | None:
            files = self.assigned_work.pop(node)
            pending = [(tests, test) for tests in files.values() for test, done in tests.items() if not done]
            if not pending:
                return None
            tests, crashed = pending[0]
            tests[crashed] = True
            self.workqueue.update((file, tests) for file, tests in files.items() if not all(tests.values()))
            for other in self.assigned_work:
                self._reschedule(other)
            return crashed

    return Scheduling(config, log)


@pytest.fixture
def dot() -> None:
    """Skip a test of pictures where graphviz's program is not installed."""
    if shutil.which("dot") is None:
        pytest.skip("needs graphviz's dot program")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what this package keeps in the user's cache out of it."""
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}):
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_letters() -> Iterator[dict[str, Any]]:
    """Write PDFs with Type 3 letters, which takes half of the time; return what users get."""
    of_users = dict(figures.PDF_WORDS)
    with mock.patch.dict(figures.PDF_WORDS, {"pdf.fonttype": 3}):
        yield of_users
