"""Flags of ImageNet training. The original train_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from typing import Literal

from darts_hpc.config.checks import check_choice, check_not_negative, check_positive
from darts_hpc.config.flags import flag
from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.config.shared import (
    MemoryConfig,
    PrecisionName,
    RuntimeConfig,
    TrainModelConfig,
    TrainOptimConfig,
    TrainRunConfig,
)

LearningRateSchedule = Literal["step", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ImageNetModelConfig(TrainModelConfig):
    """The network built from a found cell."""

    init_channels: int = 48
    """Channels of the first cell; each reduction cell doubles them."""
    layers: int = 14
    """Number of cells, one on another; those at 1/3 and 2/3 of the depth are reduction cells."""
    drop_path_prob: float = 0.0
    """Chance, from 0 up to 1, to drop a path in training; reached by a linear ramp over the epochs."""


@dataclass(frozen=True, kw_only=True)
class ImageNetOptimConfig(TrainOptimConfig):
    """SGD on the weights, its learning rates and its batches."""

    learning_rate: float = 0.1
    """Highest learning rate of the weights; for another batch size than a recipe's, scale it yourself."""
    weight_decay: float = 3e-5
    """Weight decay (L2) of the weights."""
    label_smooth: float = 0.1
    """Label smoothing: share of a label, from 0 up to 1, that is spread over all classes in training."""
    lr_schedule: LearningRateSchedule = "step"
    """How the learning rate goes down: step (the original's), linear (PC-DARTS': to zero, the last 5 epochs at a
    smaller slope), or cosine (to zero)."""
    gamma: float = 0.97
    """Factor of the learning rate at each step of --lr_schedule step."""
    decay_period: int = 1
    """Epochs between two steps of --lr_schedule step."""
    warmup_epochs: int = 0
    """First epochs, over which the learning rate is raised in equal parts; PC-DARTS takes 5 for batches above 256."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "lr_schedule", LearningRateSchedule)
        check_positive(self, "gamma", "decay_period")
        check_not_negative(self, "warmup_epochs")


@dataclass(frozen=True, kw_only=True)
class ImageNetRuntimeConfig(RuntimeConfig):
    """How steps are computed, and by how many processes; --batch_size is that of each of them."""

    precision: PrecisionName = "auto"
    """Number format of the computation: auto (bf16 on GPUs that compute in it), bf16, fp16 (with loss scaling), or
    fp32; weights and BatchNorm's statistics stay float32."""
    parallel: bool = flag(False, affects="nothing", unused=True)
    """Unused; in the original it meant DataParallel. Start one process per GPU with torchrun instead."""


@dataclass(frozen=True, kw_only=True)
class ImageNetConfig:
    """Train a found cell on ImageNet, and validate it after every epoch, or every --eval_freq epochs."""

    run: TrainRunConfig = field(default_factory=lambda: TrainRunConfig(epochs=250, seed=0, report_freq=100))
    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    model: ImageNetModelConfig = field(default_factory=ImageNetModelConfig)
    optim: ImageNetOptimConfig = field(default_factory=ImageNetOptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    runtime: ImageNetRuntimeConfig = field(default_factory=ImageNetRuntimeConfig)
