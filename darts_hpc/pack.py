"""Pack ImageNet's images into tar shards: python -m darts_hpc.pack SRC DEST. After an interruption, the same again."""

from darts_hpc.config.cli import run_entry
from darts_hpc.config.pack import PackConfig


def main(cfg: PackConfig) -> None:
    """Pack."""
    from darts_hpc.commands import pack

    pack.main(cfg)


if __name__ == "__main__":
    run_entry(main, PackConfig)
