"""Show what a search step takes, and which settings fit, without a search: python -m darts_hpc.plan [--unrolled]."""

import shlex
import sys

from darts_hpc.config.cli import run_entry
from darts_hpc.config.train_search import SearchConfig

ABOUT = """Show the memory that one step of a search needs, and how large its batches and channels may be, without
running it: a table of every gradient (first order, finite differences, exact), with and without recomputed cells,
against the memory that is free. It takes the flags and presets of a search, and writes nothing."""


def main(cfg: SearchConfig) -> None:
    """Print the table."""
    from darts_hpc.commands import plan

    plan.main(cfg)


if __name__ == "__main__":
    run_entry(main, SearchConfig, about=ABOUT, next_command=lambda cfg, _: f"search {shlex.join(sys.argv[1:])}")
