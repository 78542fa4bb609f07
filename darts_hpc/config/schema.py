"""Every flag, its default and its help: one frozen config an entry. Names and defaults are the original scripts'."""

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from darts_hpc.config.memory import MemoryConfig
from darts_hpc.config.parallel import ParallelConfig
from darts_hpc.config.speed import SearchSpeedConfig

Dataset = Literal["cifar10", "cifar100", "svhn", "digits", "folder"]
Split = Literal["stratified", "index"]
Supernet = Literal["auto", "plain", "stacked", "fused"]
UnrolledMethod = Literal["finite_difference", "exact"]
PictureFormat = Literal["svg", "pdf", "png"]
MAX_BATCH_SIZE = 1 << 20
"""Images; a larger batch is taken for a mistake, before it takes the memory."""
MAX_SEED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Images and their augmentation."""

    data: Path = Path("../data")
    """Folder the data set lies in, or is downloaded to."""
    dataset: Dataset = "cifar10"
    """Data set; digits ships with the package, folder means train/CLASS/* and test/CLASS/* under --data."""
    image_size: int | None = None
    """Side in pixels to resize to; the data set's own size when left out, required by folder."""
    cutout: bool = False
    """Blank one random square in each training image."""
    cutout_length: int = 16
    """Side of that square in pixels."""

    def __post_init__(self) -> None:
        _check_images(self)


@dataclass(frozen=True, kw_only=True)
class SearchDataConfig(DataConfig):
    """Images, their augmentation, and their split between weights and alphas."""

    batch_size: int = 64
    """Images a step: one such batch for the alphas, then one for the weights."""
    train_portion: float = 0.5
    """Share of the training images that trains the weights; the rest trains the alphas."""
    split: Split = "stratified"
    """How they are shared out: seeded and even over the classes, or by position in the data set, as in the original."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "batch_size")
        _check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        _check_choice(self, "split", Split)
        if not 0 < self.train_portion < 1:
            raise ValueError(
                f"--train_portion {self.train_portion}: expected a share between 0 and 1, so that the weights and the "
                "alphas both have images; the paper's is 0.5"
            )


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
        _check_positive(self, "batch_size")
        _check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share from 0 up to, but not including, 1")


@dataclass(frozen=True, kw_only=True)
class SearchModelConfig:
    """The supernet."""

    init_channels: int = 16
    """Channels of the first cell; each reduction cell doubles them."""
    layers: int = 8
    """Cells, stacked; those at 1/3 and 2/3 of the depth are reduction cells."""
    drop_path_prob: float = 0.3
    """Unused in the search, as in the original."""
    supernet: Supernet = "auto"
    """Its form; all compute the same function. fused: few, large operations by Triton kernels, the fastest on a GPU;
    stacked: the same by torch's operations; plain: one module for each edge and operation, the fastest on a CPU; auto
    takes the one for the device."""
    checkpoint_cells: bool = False
    """Keep only the cells' inputs for backward, and compute the rest once more: less memory, more time, the same
    numbers."""

    def __post_init__(self) -> None:
        _check_network(self)
        _check_choice(self, "supernet", Supernet)


@dataclass(frozen=True, kw_only=True)
class TrainModelConfig:
    """The network built from a found cell."""

    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 36
    """Channels of the first cell; each reduction cell doubles them."""
    layers: int = 20
    """Cells, stacked; those at 1/3 and 2/3 of the depth are reduction cells."""
    auxiliary: bool = False
    """Train a second classifier on the features at 2/3 of the depth."""
    auxiliary_weight: float = 0.4
    """Weight of its loss."""
    drop_path_prob: float = 0.2
    """Chance to drop a path, reached by a linear ramp over the epochs."""

    def __post_init__(self) -> None:
        _check_network(self)
        _check_not_negative(self, "auxiliary_weight")


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """SGD on the weights."""

    learning_rate: float = 0.025
    """First learning rate; a cosine over the epochs takes it down."""
    momentum: float = 0.9
    """Momentum."""
    weight_decay: float = 3e-4
    """Weight decay."""
    grad_clip: float = 5.0
    """Largest norm of the gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        _check_not_negative(self, "learning_rate", "momentum", "weight_decay")
        _check_positive(self, "grad_clip")


@dataclass(frozen=True, kw_only=True)
class SearchOptimConfig(SgdConfig):
    """SGD on the weights of the supernet."""

    learning_rate_min: float = 0.001
    """Learning rate the cosine ends at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_not_negative(self, "learning_rate_min")


@dataclass(frozen=True, kw_only=True)
class TrainOptimConfig(SgdConfig):
    """SGD on the weights; its learning rate ends at zero."""


@dataclass(frozen=True, kw_only=True)
class ArchOptimConfig:
    """Adam on the alphas (the architecture)."""

    arch_learning_rate: float = 3e-4
    """Learning rate of the alphas."""
    arch_weight_decay: float = 1e-3
    """Weight decay of the alphas."""
    unrolled: bool = False
    """Second order: the alphas' gradient looks one weight step ahead (slower)."""
    unrolled_method: UnrolledMethod = "finite_difference"
    """How second order takes its Hessian-vector product: the paper's formula, or automatic differentiation."""

    def __post_init__(self) -> None:
        _check_not_negative(self, "arch_learning_rate", "arch_weight_decay")
        _check_choice(self, "unrolled_method", UnrolledMethod)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run: its length, its folder and its machine."""

    epochs: int = 50
    """Passes over the training images."""
    seed: int = 2
    """Seed of the weights, the alphas, the split, the order and the augmentation."""
    save: str = "EXP"
    """Name of the experiment, kept under runs/; with a slash in it, the run folder itself."""
    resume: str = "none"
    """none starts afresh; auto continues the newest valid checkpoint of --save; a run folder continues that run."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """The GPU that auto and cuda mean."""
    report_freq: int = 50
    """Steps between two reports."""
    checkpoint_freq: int = 0
    """Steps between two checkpoints within an epoch; 0 for one at the end of each epoch only."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    deterministic: bool = False
    """Take algorithms that repeat bit for bit on a GPU, where torch has them (slower); a CPU run always repeats."""
    model_path: Path = Path("saved_models")
    """Unused, as in the original: checkpoints lie in the run folder."""

    def __post_init__(self) -> None:
        _check_positive(self, "epochs", "report_freq")
        _check_not_negative(self, "seed", "checkpoint_freq")
        _check_at_most(self, MAX_SEED, "seed")
        _check_device(self)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search a cell: train alphas and weights of the supernet in turns, and derive the genotype."""

    data: SearchDataConfig = field(default_factory=SearchDataConfig)
    model: SearchModelConfig = field(default_factory=SearchModelConfig)
    optim: SearchOptimConfig = field(default_factory=SearchOptimConfig)
    arch_optim: ArchOptimConfig = field(default_factory=ArchOptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    speed: SearchSpeedConfig = field(default_factory=SearchSpeedConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.speed.compile and self.arch_optim.unrolled and self.arch_optim.unrolled_method == "exact":
            raise ValueError(
                "--compile with --unrolled_method exact: expected one of them, because compiled cells can't be "
                "differentiated twice"
            )
        if self.speed.compile and self.parallel.sync_bn:
            raise ValueError("--compile with --sync_bn: expected one of them, because cells would wait for processes")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a found cell from scratch, and test it after every epoch."""

    data: TrainDataConfig = field(default_factory=TrainDataConfig)
    model: TrainModelConfig = field(default_factory=TrainModelConfig)
    optim: TrainOptimConfig = field(default_factory=TrainOptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(epochs=600, seed=0))


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Test the weights of a run, or a file of weights. A run folder brings its own network and data set."""

    model_path: Path = Path("EXP/model.pt")
    """A run folder, a checkpoint, or a state dict of the original scripts."""
    data: Path = Path("../data")
    """Folder the data set lies in, or is downloaded to."""
    dataset: Dataset = "cifar10"
    """Data set to test on; imagenet has flags of its own: --dataset imagenet --help."""
    image_size: int | None = None
    """Side in pixels to resize to; the data set's own size when left out, required by folder."""
    batch_size: int = 96
    """Images a step."""
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 36
    """Channels of the first cell."""
    layers: int = 20
    """Cells, stacked."""
    auxiliary: bool = False
    """The file holds an auxiliary classifier too."""
    cutout: bool = False
    """Unused in a test, as in the original."""
    cutout_length: int = 16
    """Unused in a test, as in the original."""
    drop_path_prob: float = 0.2
    """Unused in a test: no path is dropped."""
    report_freq: int = 50
    """Steps between two reports."""
    seed: int = 0
    """Seed, as in the original; a test draws no random numbers."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """The GPU that auto and cuda mean."""

    def __post_init__(self) -> None:
        _check_images(self)
        _check_network(self)
        _check_positive(self, "batch_size", "report_freq")
        _check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        _check_not_negative(self, "seed")
        _check_at_most(self, MAX_SEED, "seed")
        _check_device(self)


@dataclass(frozen=True, kw_only=True)
class VisualizeConfig:
    """Draw the normal and the reduction cell of a genotype."""

    genotype: str
    """A published name (DARTS, NASNet, ...), a genotype file, or a run folder."""
    output: Path = Path()
    """Folder the pictures go to."""
    format: tuple[PictureFormat, ...] = ("svg", "pdf", "png")
    """Formats of the pictures."""

    def __post_init__(self) -> None:
        if not self.format or not set(self.format) <= set(get_args(PictureFormat)):
            raise ValueError(f"--format {' '.join(self.format)}: expected one or more of svg, pdf, png")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Compare runs: one table, learning curves and cells, as HTML, Markdown and JSON."""

    runs: tuple[Path, ...]
    """Run folders."""
    output: Path = Path("report")
    """Folder the report goes to."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no run to report on: expected one run folder or more, as in runs/*")


def flat(cfg: Any) -> dict[str, Any]:
    """Spell a config as flag name -> plain value (numbers, texts, lists, None)."""
    values = {}
    for item in fields(cfg):
        value = getattr(cfg, item.name)
        if is_dataclass(value):
            values |= flat(value)
        elif isinstance(value, tuple):
            values[item.name] = [str(element) for element in value]
        else:
            values[item.name] = str(value) if isinstance(value, Path) else value
    return values


def _check_images(cfg: Any) -> None:
    _check_choice(cfg, "dataset", Dataset)
    _check_positive(cfg, "cutout_length")
    if cfg.image_size is None:
        if cfg.dataset == "folder":
            raise ValueError("--dataset folder: expected an --image_size beside it, such as --image_size 32")
    elif cfg.image_size < 4:
        raise ValueError(f"--image_size {cfg.image_size}: expected at least 4, because two reduction cells quarter it")


def _check_network(cfg: Any) -> None:
    if cfg.init_channels < 2 or cfg.init_channels % 2:
        near = max(2, cfg.init_channels - 1)
        raise ValueError(
            f"--init_channels {cfg.init_channels}: expected a positive even number, because a factorized reduction "
            f"makes them in two halves; try {near}"
        )
    if cfg.layers < 3:  # reduction cells stand at layers // 3 and 2 * layers // 3, and a normal cell before them
        raise ValueError(
            f"--layers {cfg.layers}: expected at least 3, so that there are two reduction cells and a normal one"
        )
    if not 0 <= cfg.drop_path_prob < 1:
        raise ValueError(f"--drop_path_prob {cfg.drop_path_prob}: expected a number from 0 up to, but not including, 1")


def _check_device(cfg: Any) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", cfg.device):
        raise ValueError(f"--device {cfg.device!r}: expected auto, cpu, cuda, or cuda:N")
    _check_not_negative(cfg, "gpu")


def _check_choice(cfg: Any, flag: str, choices: Any) -> None:
    if getattr(cfg, flag) not in get_args(choices):
        raise ValueError(f"--{flag} {getattr(cfg, flag)!r}: expected one of {', '.join(get_args(choices))}")


def _check_positive(cfg: Any, *flags: str) -> None:
    for flag in flags:
        if not 0 < getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected a number above 0")


def _check_at_most(cfg: Any, limit: int, *flags: str) -> None:
    for flag in flags:
        if getattr(cfg, flag) > limit:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected at most {limit}")


def _check_not_negative(cfg: Any, *flags: str) -> None:
    for flag in flags:
        if not 0 <= getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected 0 or a number above 0")
