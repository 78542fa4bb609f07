"""Copy ImageNet's images to a disk of this node, verified, once: python -m darts_hpc.stage SRC DEST."""

from darts_hpc.config.cli import run_entry
from darts_hpc.config.stage import StageConfig


def main(cfg: StageConfig) -> None:
    """Stage."""
    from darts_hpc.commands import stage

    stage.main(cfg)


if __name__ == "__main__":
    run_entry(main, StageConfig)
