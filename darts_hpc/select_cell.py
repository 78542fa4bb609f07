"""Select a cell from a finished search by perturbation (DARTS-PT): python -m darts_hpc.select_cell RUN."""

from pathlib import Path

from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.next_command import train_the_cell
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.run.reader import read_config


def main(cfg: SelectCellConfig) -> Path:
    """Select, and return the new run's folder."""
    from darts_hpc.commands import select_cell

    return select_cell.main(cfg)


def search_of(cfg: SelectCellConfig) -> SearchConfig:
    """Return the configuration of the finished search."""
    return parse_config(SearchConfig, ["--config", str(cfg.search / "config.yaml")])


if __name__ == "__main__":
    run_entry(
        main,
        SelectCellConfig,
        check=lambda cfg: read_config(cfg.search),
        next_command=lambda cfg, run: train_the_cell(search_of(cfg), run),
    )
