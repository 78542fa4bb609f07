"""Flags of staging images on a node's disk."""

from dataclasses import dataclass
from pathlib import Path

from darts_hpc.config.checks import check_destination, check_positive


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Copy a folder of images to a disk of this node, verified; done once, however many processes ask for it."""

    source: Path
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards."""
    destination: Path
    """Folder on a disk of this node."""
    num_threads: int = 4
    """Number of files that are copied at a time."""

    def __post_init__(self) -> None:
        check_destination(self)
        check_positive(self, "num_threads")
