"""Draw the normal and the reduction cell of a genotype as pictures: python -m darts_hpc.visualize DARTS."""

from darts_hpc.config.cli import run_entry
from darts_hpc.config.visualize import VisualizeConfig


def main(cfg: VisualizeConfig) -> None:
    """Draw."""
    from darts_hpc.commands import visualize

    visualize.main(cfg)


if __name__ == "__main__":
    run_entry(main, VisualizeConfig, imports_torch=False)
