"""Flags of ImageNet training. The original train_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darts_hpc.config.schema import (
    MAX_BATCH_SIZE,
    MAX_SEED,
    RunConfig,
    SgdConfig,
    TrainModelConfig,
    _check_at_most,
    _check_choice,
    _check_device,
    _check_network,
    _check_not_negative,
    _check_positive,
)

ImageNetLoader = Literal["dali", "torchvision", "synthetic"]
Jitter = Literal["twist", "exact"]
Decode = Literal["auto", "gpu", "cpu"]
LearningRateSchedule = Literal["step", "linear", "cosine"]
OptimizerImpl = Literal["auto", "fused", "foreach", "apex"]
PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class ImageNetDataConfig:
    """Images, how they are read, and their augmentation."""

    data: Path = Path("../data/imagenet/")
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards, whose names or folders say train or val."""
    loader: ImageNetLoader = "dali"
    """dali decodes in C++ threads or on the GPU; torchvision in worker processes; synthetic reads nothing."""
    batch_size: int = 128
    """Images a step in each process."""
    valid_batch_size: int | None = None
    """Images a validation step in each process; --batch_size when left out."""
    image_size: int = 224
    """Side in pixels of the images that the network sees."""
    resize: int = 256
    """Length in pixels of a validation image's shorter side before its centre is cut out."""
    jitter: Jitter = "twist"
    """dali's colour jitter: twist (its own, fast) or exact (torchvision's); --loader torchvision is always exact."""
    decode: Decode = "auto"
    """Where dali decodes JPEGs: auto is the GPU where there is one."""
    num_threads: int = 4
    """Threads (dali) or worker processes (torchvision) that prepare images, in each process."""
    prefetch: int = 2
    """Batches prepared ahead."""
    max_bad_images: int = 10
    """Damaged images to leave out, each named in the log; one more stops the run."""
    manifest: Path | None = None
    """File that keeps the list of images; in --data, or in ~/.cache where that is read-only, when left out."""
    synthetic_images: int = 1_281_167
    """Training images of --loader synthetic; a 25th as many validate."""
    synthetic_classes: int = 1000
    """Classes of --loader synthetic."""

    def __post_init__(self) -> None:
        _check_choice(self, "loader", ImageNetLoader)
        _check_choice(self, "jitter", Jitter)
        _check_choice(self, "decode", Decode)
        _check_positive(self, "batch_size", "num_threads", "prefetch", "synthetic_images")
        _check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        _check_not_negative(self, "max_bad_images")
        if self.valid_batch_size is not None:
            _check_positive(self, "valid_batch_size")
            _check_at_most(self, MAX_BATCH_SIZE, "valid_batch_size")
        if self.manifest is not None and not self.manifest.name:
            raise ValueError(f"--manifest {str(self.manifest)!r}: expected a file, such as manifest.npz")
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
    """Cells, stacked; those at 1/3 and 2/3 of the depth are reduction cells."""
    drop_path_prob: float = 0.0
    """Chance to drop a path, reached by a linear ramp over the epochs."""


@dataclass(frozen=True, kw_only=True)
class ImageNetOptimConfig(SgdConfig):
    """SGD on the weights, its learning rates and its batches."""

    learning_rate: float = 0.1
    """Highest learning rate; for other batches than a recipe's, scale it with them yourself."""
    weight_decay: float = 3e-5
    """Weight decay."""
    label_smooth: float = 0.1
    """Share of a label that is spread evenly over all classes; validation takes plain labels."""
    lr_schedule: LearningRateSchedule = "step"
    """step (the original's), linear (PC-DARTS': to zero, the last 5 epochs at a smaller slope), or cosine to zero."""
    gamma: float = 0.97
    """Factor of the step schedule."""
    decay_period: int = 1
    """Epochs between two such factors."""
    warmup_epochs: int = 0
    """Epochs over which the rate is raised, in equal parts; PC-DARTS takes 5 for batches above 256."""
    global_batch_size: int | None = None
    """Images an update of the weights, over all processes and accumulated batches; --batch_size times the number of
    processes when left out."""
    optimizer_impl: OptimizerImpl = "auto"
    """auto (fused on GPUs), fused, foreach, or apex (its FusedSGD, built from source)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice(self, "lr_schedule", LearningRateSchedule)
        _check_choice(self, "optimizer_impl", OptimizerImpl)
        _check_positive(self, "gamma", "decay_period")
        _check_not_negative(self, "warmup_epochs")
        if self.global_batch_size is not None:
            _check_positive(self, "global_batch_size")
        if not 0 <= self.label_smooth < 1:
            raise ValueError(f"--label_smooth {self.label_smooth}: expected a share from 0 up to, but not including, 1")


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Processes and number formats."""

    precision: PrecisionName = "auto"
    """auto (bf16 on GPUs that compute in it), bf16, fp16 (with loss scaling), or fp32."""
    channels_last: bool = True
    """Keep images and weights in the layout that GPUs' convolutions prefer."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps."""
    sync_bn: bool = False
    """Take BatchNorm's statistics over the batches of all processes, not over each its own."""
    replica_check: int = 0
    """Steps between two checks that all processes hold the same weights; 0 for none."""
    parallel: bool = False
    """Accepted from the original, where it meant DataParallel: start one process a GPU with torchrun instead."""

    def __post_init__(self) -> None:
        _check_choice(self, "precision", PrecisionName)
        _check_not_negative(self, "replica_check")


@dataclass(frozen=True, kw_only=True)
class ImageNetConfig:
    """Train a found cell on ImageNet, and validate it after every epoch."""

    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    model: ImageNetModelConfig = field(default_factory=ImageNetModelConfig)
    optim: ImageNetOptimConfig = field(default_factory=ImageNetOptimConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(epochs=250, seed=0, report_freq=100))


@dataclass(frozen=True, kw_only=True)
class EvaluateImageNetConfig:
    """Validate the weights of an ImageNet run, or of a file. A run folder brings its own network and images."""

    model_path: Path = Path("EXP/model.pt")
    """A run folder, a checkpoint, or a state dict of the original scripts."""
    dataset: Literal["imagenet"] = "imagenet"
    """Data set to test on; the others have flags of their own."""
    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 48
    """Channels of the first cell."""
    layers: int = 14
    """Cells, stacked."""
    auxiliary: bool = False
    """The file holds an auxiliary classifier too."""
    drop_path_prob: float = 0.0
    """Unused in a test: no path is dropped."""
    report_freq: int = 100
    """Unused: a test reports once, at its end."""
    seed: int = 0
    """Seed, as in the original; a test draws no random numbers."""
    precision: PrecisionName = "fp32"
    """auto (bf16 on GPUs that compute in it), bf16, fp16, or fp32."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """The GPU that auto and cuda mean."""

    def __post_init__(self) -> None:
        _check_network(self)
        _check_choice(self, "precision", PrecisionName)
        _check_not_negative(self, "seed")
        _check_at_most(self, MAX_SEED, "seed")
        _check_device(self)
