"""Flags of packing images into tar shards."""

from dataclasses import dataclass
from pathlib import Path

from darts_hpc.config.checks import check_destination, check_not_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Pack a folder of images into tar shards, which a parallel file system serves better than a million files."""

    source: Path
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards."""
    destination: Path
    """Folder the shards and their manifest go to."""
    shard_mb: int = 1024
    """Size of a shard in megabytes (1e6 bytes), about."""
    seed: int = 0
    """Seed of the order in which the images lie in the shards."""
    num_threads: int = 4
    """Number of shards that are written at a time."""
    max_bad_images: int = 10
    """Number of damaged images that may be left out; one more stops the packing."""

    def __post_init__(self) -> None:
        check_destination(self)
        check_positive(self, "shard_mb", "num_threads")
        check_not_negative(self, "seed", "max_bad_images")
