"""Flags of ImageNet training. The original train_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import check_at_most, check_choice, check_not_negative, check_positive
from darts_hpc.config.flags import flag
from darts_hpc.config.shared import (
    MemoryConfig,
    OptimizerImpl,
    PrecisionName,
    RunConfig,
    RuntimeConfig,
    TrainModelConfig,
    TrainOptimConfig,
)

ImageNetLoader = Literal["dali", "torchvision", "synthetic"]


Jitter = Literal["twist", "exact"]


Decode = Literal["auto", "gpu", "cpu"]


LearningRateSchedule = Literal["step", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ImageNetDataConfig:
    """Images, how they are read, and their augmentation."""

    data: Path = flag(Path("../data/imagenet/"), affects="nothing")
    """Folder of ImageNet: train/CLASS/* and val/CLASS/*, or tar shards whose names or folders say train or val."""
    loader: ImageNetLoader = "dali"
    """What reads the images: dali decodes in C++ threads or on the GPU; torchvision in worker processes; synthetic
    makes them up, and reads nothing."""
    batch_size: int = flag(128, affects="batches")
    """Images per step in each process (GPU)."""
    valid_batch_size: int | None = flag(None, affects="nothing")
    """Images per validation step in each process; left out, --batch_size."""
    image_size: int = 224
    """Side in pixels of the images that the network sees."""
    resize: int = 256
    """Length in pixels of a validation image's shorter side before its centre is cut out."""
    jitter: Jitter = "twist"
    """Colour jitter of --loader dali: twist (its own, fast) or exact (torchvision's); --loader torchvision is always
    exact."""
    decode: Decode = "auto"
    """Where --loader dali decodes JPEGs: auto is the GPU where there is one."""
    num_threads: int = flag(4, affects="nothing")
    """Threads (dali) or worker processes (torchvision) that prepare images, in each process."""
    prefetch: int = flag(2, affects="nothing")
    """Number of batches that are prepared ahead."""
    max_bad_images: int = flag(10, affects="nothing")
    """Number of damaged images that may be left out, each named in the log; one more stops the run."""
    manifest: Path | None = flag(None, affects="nothing")
    """File that keeps the list of images; left out, a file in --data, or in ~/.cache where that is read-only."""
    synthetic_images: int = 1_281_167
    """Number of training images of --loader synthetic; a 25th as many validate."""
    synthetic_classes: int = 1000
    """Number of classes of --loader synthetic."""

    def __post_init__(self) -> None:
        check_choice(self, "loader", ImageNetLoader)
        check_choice(self, "jitter", Jitter)
        check_choice(self, "decode", Decode)
        check_positive(self, "batch_size", "num_threads", "prefetch", "synthetic_images")
        check_not_negative(self, "max_bad_images")
        if self.valid_batch_size is not None:
            check_positive(self, "valid_batch_size")
        if self.manifest is not None and not self.manifest.name:
            raise ValueError(f"--manifest {str(self.manifest)!r}: expected a file, such as manifest.npz")
        check_at_most(self, "image_size", "resize", "synthetic_classes")
        if self.image_size < 32:
            raise ValueError(f"--image_size {self.image_size}: expected at least 32, because the network divides by 32")
        if self.resize < self.image_size:
            raise ValueError(
                f"--resize {self.resize}: expected at least --image_size {self.image_size}, which is cut out of it"
            )
        if self.synthetic_classes < 2:
            raise ValueError(f"--synthetic_classes {self.synthetic_classes}: expected two or more")


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
    optimizer_impl: OptimizerImpl = "auto"
    """Implementation of SGD: auto (fused on GPUs, foreach elsewhere), fused, foreach, or apex (its FusedSGD, built from
    source)."""

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
    """Train a found cell on ImageNet, and validate it after every epoch."""

    run: RunConfig = field(default_factory=lambda: RunConfig(epochs=250, seed=0, report_freq=100))
    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    model: ImageNetModelConfig = field(default_factory=ImageNetModelConfig)
    optim: ImageNetOptimConfig = field(default_factory=ImageNetOptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    runtime: ImageNetRuntimeConfig = field(default_factory=ImageNetRuntimeConfig)
