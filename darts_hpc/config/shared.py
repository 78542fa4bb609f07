"""Sections that several entry points use. The original scripts' flags keep their names, meanings and defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from darts_hpc.config.checks import (
    check_at_most,
    check_choice,
    check_data_folder,
    check_device,
    check_network,
    check_not_negative,
    check_positive,
    check_save,
)
from darts_hpc.config.flags import flag
from darts_hpc.data.sets.table import IN_MEMORY
from darts_hpc.units import parse_bytes

if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[IN_MEMORY]


PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]


NetworkForm = Literal["auto", "plain", "fast"]


OptimizerImpl = Literal["auto", "fused", "foreach", "apex"]


MemoryCheck = Literal["auto", "warn", "off"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Images and their augmentation."""

    data: Path = flag(Path("../data"), affects="nothing")
    """Folder the data set lies in, or is downloaded to."""
    dataset: Dataset = "cifar10"
    """Data set: digits comes with the package, folder is train/CLASS/* and test/CLASS/* under --data, webdataset is
    train/*.tar and test/*.tar there, the others are downloaded; arrays is what Python hands over."""
    image_size: int | None = None
    """Side in pixels that images are resized to; left out, the data set's own size. Required by --dataset folder and
    webdataset."""
    cutout: bool = False
    """Blank one random square in each training image."""
    cutout_length: int = 16
    """Side in pixels of the square that --cutout blanks."""
    batch_size: int = 64
    """Images per step in each process (GPU)."""

    def __post_init__(self) -> None:
        check_images(self)
        check_positive(self, "batch_size")


@dataclass(frozen=True, kw_only=True)
class TrainModelConfig:
    """The network built from a found cell."""

    arch: str = flag("DARTS", affects="named")
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 36
    """Channels of the first cell; each reduction cell doubles them."""
    layers: int = 20
    """Number of cells, one on another; those at 1/3 and 2/3 of the depth are reduction cells."""
    auxiliary: bool = False
    """Train a second classifier on the features at 2/3 of the depth."""
    auxiliary_weight: float = 0.4
    """Weight of the auxiliary classifier's loss."""
    drop_path_prob: float = 0.2
    """Chance, from 0 up to 1, to drop a path in training; reached by a linear ramp over the epochs."""
    network: NetworkForm = flag("auto", affects="last_bits")
    """Form of the network; both compute the same function, and a checkpoint of one continues in the other. plain: one
    module for each edge; fast: few, large operations on all weights as one vector, in a layout of its own; auto: fast
    on a GPU, plain on a CPU, where fast is faster as well but ends in other last bits."""
    checkpoint_cells: bool = flag(False, affects="last_bits")
    """Keep only the cells' inputs for backward, and compute the rest of each cell once more: less memory, more time,
    the same numbers."""

    def __post_init__(self) -> None:
        check_network(self)
        check_choice(self, "network", NetworkForm)
        check_not_negative(self, "auxiliary_weight")


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """SGD on the weights."""

    learning_rate: float = 0.025
    """Learning rate of the weights in the first epoch; a cosine over the epochs takes it down."""
    momentum: float = 0.9
    """Momentum of the weights' SGD."""
    weight_decay: float = 3e-4
    """Weight decay (L2) of the weights."""
    grad_clip: float = 5.0
    """Largest norm of the weights' gradient; a longer one is scaled down to it."""

    def __post_init__(self) -> None:
        check_not_negative(self, "learning_rate", "momentum", "weight_decay")
        check_positive(self, "grad_clip")


@dataclass(frozen=True, kw_only=True)
class TrainOptimConfig(SgdConfig):
    """SGD on the weights; its learning rate ends at zero."""

    label_smooth: float = 0.0
    """Label smoothing: share of a label, from 0 up to 1, that is spread over all classes in training."""
    ema: float = 0.0
    """Decay, from 0 up to 1, of a moving average of the weights, which is tested and saved in their place, such as
    0.9999; it is raised over the first steps, as timm does. 0 for none."""
    global_batch_size: int | None = None
    """Images per update of the weights, over all processes and accumulated batches; left out, --batch_size times the
    number of processes."""
    optimizer_impl: OptimizerImpl = flag("auto", affects="last_bits")
    """Implementation of SGD: auto (fused on GPUs, foreach elsewhere), fused, foreach, or apex (its FusedSGD, built from
    source). --cuda_graph needs fused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "optimizer_impl", OptimizerImpl)
        if self.global_batch_size is not None:
            check_positive(self, "global_batch_size")
        if not 0 <= self.label_smooth < 1:
            raise ValueError(f"--label_smooth {self.label_smooth}: expected a share from 0 up to, but not including, 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema {self.ema}: expected a decay from 0 up to, but not including, 1, such as 0.9999")


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The memory that a step may take."""

    memory_check: MemoryCheck = flag("auto", affects="nothing")
    """What is done about memory before the first step: auto recomputes cells in backward where only that fits, and
    refuses a step that does not fit; warn says that it does not fit, and runs; off does not look."""
    memory_limit: str | None = flag(None, affects="nothing")
    """Memory that a step of one process may take, such as 10GiB or 800MB; left out, what is free, less a margin."""

    def __post_init__(self) -> None:
        if self.memory_check not in get_args(MemoryCheck):
            raise ValueError(
                f"--memory_check {self.memory_check!r}: expected one of {', '.join(get_args(MemoryCheck))}"
            )
        if self.memory_limit is not None:
            try:
                parse_bytes(self.memory_limit)
            except ValueError as error:
                raise ValueError(f"--memory_limit {error}") from None


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Number formats and layouts."""

    precision: PrecisionName = "fp32"
    """Number format of the computation: auto (bf16 on GPUs that compute in it), bf16, fp16 (with loss scaling), or
    fp32; weights, alphas and BatchNorm's statistics stay float32."""
    channels_last: bool = flag(True, affects="last_bits")
    """Keep images and weights in the layout that convolutions prefer; the supernet's fast form has a layout of its
    own."""

    def __post_init__(self) -> None:
        check_choice(self, "precision", PrecisionName)


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig(ComputeConfig):
    """How steps are computed, and by how many processes; --batch_size is that of each of them."""

    compile: bool = flag(False, affects="last_bits")
    """Compile the cells with torch.compile: minutes at the start, faster steps."""
    cuda_graph: bool = flag(True, affects="last_bits")
    """Replay the whole step as one CUDA graph on a GPU, where that is possible; a log line says where it is not."""
    sync_bn: bool = False
    """Take BatchNorm's statistics over the batches of all processes, not over each its own: N processes then compute
    what one does on the joined batch."""
    replica_check: int = flag(100, affects="nothing")
    """Steps between two checks that all processes hold the same weights (and alphas); 0 for no check."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "replica_check")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run, its length, its folder and its device."""

    epochs: int = 50
    """Epochs: passes over the training images."""
    seed: int = flag(2, affects="member")
    """Seed of the weights, the alphas, the split, the order and the augmentation."""
    save: str = flag("EXP", affects="nothing", path=True)
    """Name of the experiment, whose run folder is made under runs/; with a slash in it, the run folder itself."""
    resume: str = flag("none", affects="nothing", path=True)
    """What to go on from: none starts afresh; auto continues the newest valid checkpoint of --save; a run folder
    continues that run."""
    device: str = flag("auto", affects="nothing")
    """Device to compute on: auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = flag(0, affects="nothing")
    """Index of the GPU that --device auto and cuda mean."""
    report_freq: int = flag(50, affects="nothing")
    """Steps between two log lines and records."""
    checkpoint_freq: int = flag(0, affects="nothing")
    """Steps between two checkpoints within an epoch; 0 for one at the end of each epoch only."""
    tensorboard: bool = flag(True, affects="nothing")
    """Write TensorBoard events beside metrics.jsonl."""
    deterministic: bool = flag(False, affects="last_bits")
    """Take algorithms that repeat bit for bit on a GPU, where torch has them (slower); a CPU run always repeats."""
    model_path: Path = flag(Path("saved_models"), affects="nothing", unused=True)
    """Unused, as in the original: checkpoints lie in the run folder."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "report_freq")
        check_not_negative(self, "seed", "checkpoint_freq")
        check_save(self)
        check_device(self)


@dataclass(frozen=True, kw_only=True)
class TrainRunConfig(RunConfig):
    """The run, its length, its evaluations, its folder and its device."""

    eval_freq: int = flag(1, affects="nothing")
    """Epochs between two evaluations on the test or validation images; the last epoch is always evaluated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "eval_freq")

    @property
    def num_evaluations(self) -> int:
        """Epochs that are evaluated."""
        return -(-self.epochs // self.eval_freq)

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the network is evaluated after this epoch, 0-based."""
        return (epoch + 1) % self.eval_freq == 0 or epoch + 1 == self.epochs


def check_images(cfg: Any) -> None:
    """Check the data set, its image size and cutout."""
    check_choice(cfg, "dataset", get_type_hints(type(cfg))["dataset"])
    check_data_folder(cfg)
    check_positive(cfg, "cutout_length")
    if cfg.image_size is None:
        if cfg.dataset in ("folder", "webdataset"):
            raise ValueError(f"--dataset {cfg.dataset}: expected an --image_size beside it, such as --image_size 32")
        return
    check_at_most(cfg, "image_size")
    if cfg.image_size < 4:
        raise ValueError(f"--image_size {cfg.image_size}: expected at least 4, because two reduction cells quarter it")
