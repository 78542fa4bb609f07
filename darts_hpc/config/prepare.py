"""Flags of the entries that prepare ImageNet's images: pack and stage."""

from dataclasses import dataclass
from pathlib import Path

from darts_hpc.config.schema import MAX_SEED, _check_at_most, _check_not_negative, _check_positive

MAX_SHARD_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Pack a folder of images into tar shards, which a parallel file system serves better than a million files."""

    source: Path
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards."""
    destination: Path
    """Folder the shards and their manifest go to."""
    shard_mb: int = 1024
    """Size of a shard in megabytes, about."""
    seed: int = 0
    """Seed of the order in which the images lie in the shards."""
    num_threads: int = 4
    """Shards written at a time."""
    max_bad_images: int = 10
    """Damaged images to leave out; one more stops the packing."""

    def __post_init__(self) -> None:
        _check_positive(self, "shard_mb", "num_threads")
        _check_not_negative(self, "seed", "max_bad_images")
        _check_at_most(self, MAX_SHARD_MB, "shard_mb")
        _check_at_most(self, MAX_SEED, "seed")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Copy a folder of images to a disk of this node, verified; done once, however many processes ask for it."""

    source: Path
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards."""
    destination: Path
    """Folder on a disk of this node."""
    num_threads: int = 4
    """Files copied at a time."""

    def __post_init__(self) -> None:
        _check_positive(self, "num_threads")
