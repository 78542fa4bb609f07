"""Flags of the training. The original train.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field

from darts_hpc.config.checks import MAX_BATCH_SIZE, check_at_most, check_positive
from darts_hpc.config.shared import DataConfig, RunConfig, SgdConfig, TrainModelConfig


@dataclass(frozen=True, kw_only=True)
class TrainDataConfig(DataConfig):
    """Images and their augmentation."""

    batch_size: int = 96
    """Images a step."""
    held_out: float = 0.0
    """Share of the training images that is kept out of the training and judges it in place of the test images, which
    are then not looked at; for ranking cells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")
        check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share from 0 up to, but not including, 1")


@dataclass(frozen=True, kw_only=True)
class TrainOptimConfig(SgdConfig):
    """SGD on the weights; its learning rate ends at zero."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a found cell from scratch, and test it after every epoch."""

    data: TrainDataConfig = field(default_factory=TrainDataConfig)
    model: TrainModelConfig = field(default_factory=TrainModelConfig)
    optim: TrainOptimConfig = field(default_factory=TrainOptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(epochs=600, seed=0))
