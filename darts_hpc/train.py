"""Train a found cell from scratch (the original train.py): python -m darts_hpc.train --auxiliary --cutout."""

from pathlib import Path

from darts_hpc.config.cli import run_entry
from darts_hpc.config.train import TrainConfig
from darts_hpc.space.genotypes import load_genotype


def main(cfg: TrainConfig) -> Path:
    """Train, and return the run folder."""
    from darts_hpc.commands import train

    return train.main(cfg)


if __name__ == "__main__":
    run_entry(
        main,
        TrainConfig,
        check=lambda cfg: load_genotype(cfg.model.arch),
        next_command=lambda cfg, run: f"evaluate --model_path {run}",
    )
