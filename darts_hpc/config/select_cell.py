"""Flags of the selection of a cell from a finished search."""

from dataclasses import dataclass, field
from pathlib import Path

from darts_hpc.config.checks import check_device, check_save
from darts_hpc.config.flags import flag
from darts_hpc.config.train_search import PerturbationConfig


@dataclass(frozen=True, kw_only=True)
class SelectCellConfig:
    """Select a cell from the supernet of a finished search by perturbation (DARTS-PT), into a run of its own."""

    search: Path
    """Folder of the finished search, whose settings and newest checkpoint are taken."""
    save: str = flag("selection", path=True)
    """Name of the run, whose folder is made under runs/; with a slash in it, the run folder itself."""
    resume: str = flag("none", path=True)
    """What to go on from: none starts afresh; auto continues the newest valid checkpoint of --save."""
    device: str = "auto"
    """Device to compute on: auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """Index of the GPU that --device auto and cuda mean."""
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)

    def __post_init__(self) -> None:
        check_save(self)
        check_device(self)
