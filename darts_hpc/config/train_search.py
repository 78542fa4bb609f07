"""Flags of the search. The original train_search.py's keep their names, meanings and defaults."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from darts_hpc.config.checks import check_choice, check_network, check_not_negative, check_positive
from darts_hpc.config.combinations import check_combination
from darts_hpc.config.flags import flag
from darts_hpc.config.idle_flags import check_idle_flags
from darts_hpc.config.imagenet_reading import ImageNetDataConfig, ImageNetReadingConfig
from darts_hpc.config.shared import DataConfig, MemoryConfig, RunConfig, RuntimeConfig, SgdConfig
from darts_hpc.data.sets.table import DATASETS

if TYPE_CHECKING:
    SearchDataset = str
else:
    SearchDataset = Literal[tuple(DATASETS)]


Split = Literal["stratified", "index"]


Supernet = Literal["auto", "plain", "fast"]


StemName = Literal["auto", "cifar", "imagenet"]


UnrolledMethod = Literal["finite_difference", "exact"]


Space = Literal["darts", "darts_no_none", "s1", "s2", "s3", "s4"]


AuxiliarySkip = Literal["none", "linear", "cosine", "constant"]


RelaxationName = Literal["softmax", "dirichlet", "gumbel", "sigmoid"]


AlphaRegulariser = Literal["none", "beta", "kl", "zero_one"]


Perturb = Literal["none", "random", "adversarial"]


EarlyStop = Literal["none", "skips", "eigenvalue", "adaptive"]


Selection = Literal["magnitude", "perturbation"]


PtCriterion = Literal["accuracy", "loss"]


DEFAULT_ARCH_WEIGHT_DECAY = float("1e-3")
"""The very object tells a flag that was left out from one that says the same."""


@dataclass(frozen=True, kw_only=True)
class SearchDataConfig(DataConfig):
    """Images, their augmentation, and their split between weights and alphas."""

    dataset: SearchDataset = "cifar10"
    """Data set: digits comes with the package, folder is train/CLASS/* and test/CLASS/* under --data, webdataset is
    train/*.tar and test/*.tar there, imagenet is train_imagenet's and is read batch by batch, the others are
    downloaded; arrays is what Python hands over."""
    batch_size: int = 64
    """Images per step in each process (GPU): one such batch for the alphas, then one for the weights."""
    train_portion: float = 0.5
    """Share of the training images, between 0 and 1, that trains the weights; the rest trains the alphas."""
    split: Split = "stratified"
    """How the training images are split between weights and alphas: stratified is seeded and even over the classes;
    index goes by the position in the data set, as the original does."""
    weight_share: float = 0.1
    """Share of each class's training images, drawn by the seed, that trains the weights on ImageNet."""
    alpha_share: float = 0.025
    """Share of each class's training images, others than --weight_share's, that trains the alphas on ImageNet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "split", Split)
        for name in ("weight_share", "alpha_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: expected a share between 0 and 1")
        if self.weight_share + self.alpha_share > 1:
            raise ValueError(
                f"--alpha_share {self.alpha_share} with --weight_share {self.weight_share}: expected at most 1 "
                "together, because no image trains both; lower one of them"
            )
        if not 0 < self.train_portion < 1:
            raise ValueError(
                f"--train_portion {self.train_portion}: expected a share between 0 and 1, so that the weights and the "
                "alphas both have images; the paper's is 0.5"
            )


@dataclass(frozen=True, kw_only=True)
class SearchModelConfig:
    """The supernet."""

    init_channels: int = 16
    """Channels of the first cell; each reduction cell doubles them."""
    layers: int = 8
    """Number of cells, one on another; those at 1/3 and 2/3 of the depth are reduction cells."""
    drop_path_prob: float = flag(0.3, affects="nothing", unused=True)
    """Unused in the search, as in the original, which drops no path."""
    supernet: Supernet = flag("auto", affects="last_bits")
    """Form of the supernet; both compute the same function. plain: one module for each edge and operation, the faster
    one on most CPUs; fast: few, large operations, by Triton kernels on a GPU and by torch's elsewhere (earlier called
    fused and stacked); auto: fast on a GPU, plain on a CPU."""
    stem: StemName = "auto"
    """What precedes the cells: one convolution (cifar), or three of stride 2, which leave an eighth of the side
    (imagenet); auto: imagenet with --dataset imagenet, cifar with any other."""
    space: Space = "darts"
    """Candidate operations of the edges: those of darts, the same without the zero operation (darts_no_none), or one of
    RobustDARTS' s1 to s4."""
    partial_channels: int = 1
    """K of PC-DARTS: candidate operations take a K-th of the channels, and the others pass by; 1 for all. It must
    divide --init_channels."""
    edge_norm: bool = False
    """Weigh the edges that enter a node by trained weights of their own (PC-DARTS)."""
    auxiliary_skip: AuxiliarySkip = "none"
    """Add a skip connection beside the candidates of every edge (DARTS-); how its share goes from 1 to 0 over the
    epochs, or constant."""
    search_drop_path: float = 0.0
    """Chance, from 0 up to 1, to drop an edge in the search's last epoch, to which it grows from 0 (R-DARTS)."""
    checkpoint_cells: bool = flag(False, affects="last_bits")
    """Keep only the cells' inputs for backward, and compute the rest of each cell once more: less memory, more time,
    the same numbers."""

    def __post_init__(self) -> None:
        check_network(self)
        check_choice(self, "supernet", Supernet)
        check_choice(self, "stem", StemName)
        check_choice(self, "space", Space)
        check_choice(self, "auxiliary_skip", AuxiliarySkip)
        if not 0 <= self.search_drop_path < 1:
            raise ValueError(f"--search_drop_path {self.search_drop_path}: expected a number from 0 up to 1, without 1")
        if self.partial_channels < 1 or self.init_channels % self.partial_channels:
            below = range(1, max(2, min(self.partial_channels, self.init_channels + 1)))
            near = max(k for k in below if self.init_channels % k == 0)
            raise ValueError(
                f"--partial_channels {self.partial_channels} with --init_channels {self.init_channels}: expected a "
                f"divisor of the channels, of which candidates take a part; try {near}"
            )


@dataclass(frozen=True, kw_only=True)
class SearchOptimConfig(SgdConfig):
    """SGD on the weights of the supernet."""

    learning_rate_min: float = 0.001
    """Learning rate of the weights that the cosine ends at."""
    warmup_epochs: int = 0
    """First epochs, over which the learning rate of the weights is raised in equal parts (PC-DARTS on ImageNet: 5)."""
    perturb: Perturb = "none"
    """Perturb the weights of operations in the weight step: not at all (none), at random (SDARTS-RS) or adversarially
    (SDARTS-ADV)."""
    perturb_epsilon: float = 0.3
    """Size of --perturb's perturbation in the last epoch, to which it grows from 0.03."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "learning_rate_min", "warmup_epochs")
        check_choice(self, "perturb", Perturb)
        check_positive(self, "perturb_epsilon")


@dataclass(frozen=True, kw_only=True)
class ArchOptimConfig:
    """Adam on the alphas, which are the architecture."""

    arch_learning_rate: float = 3e-4
    """Learning rate of the alphas' Adam."""
    arch_weight_decay: float = DEFAULT_ARCH_WEIGHT_DECAY
    """Weight decay of the alphas; left out with --alpha_regulariser kl, it is 0."""
    unrolled: bool = False
    """Second-order DARTS: the alphas' gradient looks one weight step ahead; about 3 times the time per step."""
    unrolled_method: UnrolledMethod = "finite_difference"
    """How --unrolled takes its Hessian-vector product: by the paper's finite differences, or exactly, by automatic
    differentiation."""
    relaxation: RelaxationName = "softmax"
    """How alphas weigh the operations of an edge: softmax; a Dirichlet sample (DrNAS); one operation, drawn (gumbel:
    GDAS); or independent gates (sigmoid: FairDARTS)."""
    tau_max: float = 10.0
    """Temperature of --relaxation gumbel in the first epoch."""
    tau_min: float = 0.1
    """Temperature of --relaxation gumbel after the last epoch."""
    alpha_regulariser: AlphaRegulariser = "none"
    """Term added to the alphas' loss: none, beta (beta-DARTS), kl (DrNAS, for --relaxation dirichlet) or zero_one
    (FairDARTS, for sigmoid)."""
    alpha_regulariser_weight: float | None = None
    """Weight of --alpha_regulariser in the loss; left out, 50 for beta, to which it grows from 0, 1e-3 for kl, and 10
    for zero_one."""
    alpha_warmup_epochs: int = 0
    """Number of first epochs in which the weights train alone, and the alphas stand still (PC-DARTS: 15)."""

    def __post_init__(self) -> None:
        check_not_negative(self, "arch_learning_rate", "arch_weight_decay")
        check_choice(self, "unrolled_method", UnrolledMethod)
        check_choice(self, "relaxation", RelaxationName)
        check_choice(self, "alpha_regulariser", AlphaRegulariser)
        check_not_negative(self, "alpha_warmup_epochs")
        check_positive(self, "tau_max", "tau_min")
        if self.tau_min > self.tau_max:
            raise ValueError(f"--tau_min {self.tau_min}: expected at most --tau_max {self.tau_max}")
        if self.alpha_regulariser_weight is not None:
            check_not_negative(self, "alpha_regulariser_weight")


@dataclass(frozen=True, kw_only=True)
class EarlyStopConfig:
    """When the search ends before its last epoch."""

    early_stop: EarlyStop = "none"
    """What ends the search before its last epoch: nothing (none); too many skip connections (skips: DARTS+); a rise of
    the validation loss's curvature (eigenvalue: DARTS-ES); adaptive then rolls back, and goes on with more weight decay
    (DARTS-ADA)."""
    max_skips: int = 1
    """Number of skip connections that the normal cell may have under --early_stop skips."""
    early_stop_from: int = 10
    """First epoch whose cell an early stop may give as the result, counted from 0."""
    eigenvalue_every: int = 2
    """Epochs between two eigenvalues, of --early_stop eigenvalue and adaptive, and of --record_eigenvalue."""
    eigenvalue_factor: float = 1.3
    """Rise of the eigenvalue's average over four evaluations, as a factor, that ends the search."""
    record_eigenvalue: bool = flag(False, affects="nothing")
    """Measure and record the eigenvalue after the first epoch, every --eigenvalue_every further ones and the last,
    whatever ends the search."""
    adaptive_factor: float = 10.0
    """Factor by which --early_stop adaptive raises the weight decay."""
    adaptive_max_decay: float = 0.03
    """Weight decay that --early_stop adaptive does not go beyond; the search then goes on to its end."""

    def can_raise(self, weight_decay: float) -> bool:
        """Whether adaptive may still raise this weight decay."""
        return weight_decay * self.adaptive_factor <= self.adaptive_max_decay * (1 + 1e-9)

    def __post_init__(self) -> None:
        check_choice(self, "early_stop", EarlyStop)
        check_not_negative(self, "max_skips", "early_stop_from")
        check_positive(self, "eigenvalue_every", "adaptive_max_decay")
        for name in ("eigenvalue_factor", "adaptive_factor"):
            if not 1 < getattr(self, name) < math.inf:
                raise ValueError(f"--{name} {getattr(self, name)}: expected a number above 1")


@dataclass(frozen=True, kw_only=True)
class PerturbationConfig:
    """How a cell is selected by what the supernet misses most."""

    pt_epochs_between: int = 10
    """Epochs of tuning between two decisions of a selection by perturbation."""
    pt_criterion: PtCriterion = "accuracy"
    """What a selection by perturbation compares: accuracy, or loss, without an operation."""
    pt_batches: int | None = None
    """Validation batches, drawn by the seed, that each decision of a selection by perturbation looks at; left out,
    all."""

    def __post_init__(self) -> None:
        check_choice(self, "pt_criterion", PtCriterion)
        check_positive(self, "pt_epochs_between")
        if self.pt_batches is not None:
            check_positive(self, "pt_batches")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig(PerturbationConfig):
    """How the cell is read off the trained supernet."""

    selection: Selection = "magnitude"
    """How operations are chosen at the end: those of the largest weights (magnitude: DARTS), or those that the supernet
    misses most, edge by edge (perturbation: DARTS-PT)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "selection", Selection)


@dataclass(frozen=True, kw_only=True)
class SearchRuntimeConfig(RuntimeConfig):
    """How steps are computed, and by how many processes; finite differences stay in full float32 in any case."""

    tf32: bool = flag(True, affects="last_bits")
    """Let an NVIDIA GPU round the factors of float32 products to TF32, as torch does for convolutions by itself."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search a cell: train alphas and weights of the supernet in turns, and derive the genotype."""

    run: RunConfig = field(default_factory=RunConfig)
    data: SearchDataConfig = field(default_factory=SearchDataConfig)
    reading: ImageNetReadingConfig = field(default_factory=ImageNetReadingConfig)
    model: SearchModelConfig = field(default_factory=SearchModelConfig)
    optim: SearchOptimConfig = field(default_factory=SearchOptimConfig)
    arch_optim: ArchOptimConfig = field(default_factory=ArchOptimConfig)
    early_stop: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    runtime: SearchRuntimeConfig = field(default_factory=SearchRuntimeConfig)

    @property
    def stem(self) -> str:
        """The supernet's stem, a key of models.stems.STEMS."""
        own = "imagenet" if self.data.dataset == "imagenet" else "cifar"
        return own if self.model.stem == "auto" else self.model.stem

    def imagenet(self) -> ImageNetDataConfig:
        """Return what --dataset imagenet reads, as train_imagenet's flags say it."""
        reading = {item.name: getattr(self.reading, item.name) for item in fields(self.reading)}
        side = self.data.image_size or DATASETS["imagenet"].image_size
        return ImageNetDataConfig(data=self.data.data, batch_size=self.data.batch_size, image_size=side, **reading)

    def __post_init__(self) -> None:
        check_combination(self)
        check_idle_flags(self)
        if self.data.dataset == "imagenet":
            self.imagenet()
        if self.arch_optim.alpha_regulariser == "kl" and self.arch_optim.arch_weight_decay is DEFAULT_ARCH_WEIGHT_DECAY:
            object.__setattr__(self, "arch_optim", replace(self.arch_optim, arch_weight_decay=0.0))
        if self.runtime.precision == "fp16":
            raise ValueError(
                "--precision fp16: expected auto, bf16 or fp32, because the alphas' gradient is a difference or a "
                "second derivative, which a loss scale does not go through"
            )
        if self.runtime.compile and self.arch_optim.unrolled and self.arch_optim.unrolled_method == "exact":
            raise ValueError(
                "--compile with --unrolled_method exact: expected one of them, because compiled cells can't be "
                "differentiated twice"
            )
        if self.runtime.compile and self.runtime.sync_bn:
            raise ValueError("--compile with --sync_bn: expected one of them, because cells would wait for processes")
