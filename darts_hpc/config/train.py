"""Flags of the training. The original train.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from typing import Literal

from darts_hpc.config.checks import check_choice
from darts_hpc.config.flags import flag
from darts_hpc.config.shared import (
    DataConfig,
    MemoryConfig,
    RuntimeConfig,
    TrainModelConfig,
    TrainOptimConfig,
    TrainRunConfig,
)

Augment = Literal["none", "trivial", "auto"]


@dataclass(frozen=True, kw_only=True)
class TrainDataConfig(DataConfig):
    """Images and their augmentation."""

    batch_size: int = flag(96, affects="batches")
    """Images per step in each process (GPU)."""
    augment: Augment = "none"
    """What changes shape or colours of each training image, before crop, flip and cutout: trivial (TrivialAugment,
    wide) or auto (AutoAugment's policy for CIFAR-10, with --dataset svhn that for SVHN)."""
    held_out: float = 0.0
    """Share of the training images, from 0 up to 1, that is kept out of the training and evaluates it in place of the
    test images, which are then not looked at; for ranking cells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "augment", Augment)
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share from 0 up to, but not including, 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a found cell from scratch, and test it after every epoch, or every --eval_freq epochs."""

    run: TrainRunConfig = field(default_factory=lambda: TrainRunConfig(epochs=600, seed=0))
    data: TrainDataConfig = field(default_factory=TrainDataConfig)
    model: TrainModelConfig = field(default_factory=TrainModelConfig)
    optim: TrainOptimConfig = field(default_factory=TrainOptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
