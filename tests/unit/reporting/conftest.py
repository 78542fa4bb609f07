"""Run folders to report on, and whether pictures can be drawn here."""

import shutil
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """One search and two trainings of the same configuration."""
    return [
        write_search_run(tmp_path / "runs" / "train_search-digits-1"),
        write_train_run(tmp_path / "runs" / "train-digits-1", seed=0, accuracy=98.89),
        write_train_run(tmp_path / "runs" / "train-digits-2", seed=1, accuracy=99.17),
    ]


@pytest.fixture
def dot() -> None:
    """Skip a test of pictures where graphviz's program is not installed."""
    if shutil.which("dot") is None:
        pytest.skip("needs graphviz's dot program")
