"""Search a cell (the original train_search.py): python -m darts_hpc.train_search [--unrolled]."""

from pathlib import Path

from darts_hpc.config.cli import run_entry
from darts_hpc.config.combinations import check_space
from darts_hpc.config.next_command import train_the_cell
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.space.spaces import SPACES


def main(cfg: SearchConfig) -> Path:
    """Search, and return the run folder."""
    from darts_hpc.commands import train_search

    return train_search.main(cfg)


if __name__ == "__main__":
    run_entry(
        main,
        SearchConfig,
        check=lambda cfg: check_space(cfg, SPACES[cfg.model.space]),
        next_command=train_the_cell,
    )
