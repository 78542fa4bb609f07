"""Train a found cell on ImageNet: torchrun --nproc_per_node 8 -m darts_hpc.train_imagenet --auxiliary."""

from pathlib import Path

from darts_hpc.config.cli import run_entry
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.space.genotypes import load_genotype


def main(cfg: ImageNetConfig) -> Path:
    """Train, and return the run folder."""
    from darts_hpc.commands import train_imagenet

    return train_imagenet.main(cfg)


if __name__ == "__main__":
    run_entry(
        main,
        ImageNetConfig,
        check=lambda cfg: load_genotype(cfg.model.arch),
        next_command=lambda cfg, run: f"evaluate --model_path {run}",
    )
