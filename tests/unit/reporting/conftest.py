"""Run folders to report on."""

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
