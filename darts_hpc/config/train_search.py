"""Flags of the search. The original train_search.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from typing import Literal

from darts_hpc.config.checks import check_choice, check_network, check_not_negative
from darts_hpc.config.flags import flag
from darts_hpc.config.shared import DataConfig, MemoryConfig, RunConfig, RuntimeConfig, SgdConfig

Split = Literal["stratified", "index"]


Supernet = Literal["auto", "plain", "fast"]


UnrolledMethod = Literal["finite_difference", "exact"]


@dataclass(frozen=True, kw_only=True)
class SearchDataConfig(DataConfig):
    """Images, their augmentation, and their split between weights and alphas."""

    batch_size: int = 64
    """Images per step in each process: one such batch for the alphas, then one for the weights."""
    train_portion: float = 0.5
    """Share of the training images that trains the weights; the rest trains the alphas."""
    split: Split = "stratified"
    """How they are shared out: seeded and even over the classes, or by position in the data set, as in the original."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "split", Split)
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
    """Cells, stacked; those at 1/3 and 2/3 of the depth are reduction cells."""
    drop_path_prob: float = flag(0.3, affects="nothing")
    """Unused in the search, as in the original."""
    supernet: Supernet = flag("auto", affects="last_bits")
    """Its form; both compute the same function. plain: one module for each edge and operation, the faster one on most
    CPUs; fast: few, large operations, by Triton kernels on a GPU and by torch's elsewhere (earlier called fused and
    stacked); auto: fast on a GPU, plain on a CPU."""
    checkpoint_cells: bool = flag(False, affects="last_bits")
    """Keep only the cells' inputs for backward, and compute the rest once more: less memory, more time, the same
    numbers."""

    def __post_init__(self) -> None:
        check_network(self)
        check_choice(self, "supernet", Supernet)


@dataclass(frozen=True, kw_only=True)
class SearchOptimConfig(SgdConfig):
    """SGD on the weights of the supernet."""

    learning_rate_min: float = 0.001
    """Learning rate the cosine ends at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "learning_rate_min")


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
        check_not_negative(self, "arch_learning_rate", "arch_weight_decay")
        check_choice(self, "unrolled_method", UnrolledMethod)


@dataclass(frozen=True, kw_only=True)
class SearchRuntimeConfig(RuntimeConfig):
    """How steps are computed, and by how many processes; finite differences stay in full float32 in any case."""

    tf32: bool = flag(True, affects="last_bits")
    """Let an NVIDIA GPU round the factors of float32 products to TF32, as torch does for convolutions by itself."""
    cuda_graph: bool = flag(True, affects="last_bits")
    """Replay the whole step as one CUDA graph, where that is possible; a log line says where it is not."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search a cell: train alphas and weights of the supernet in turns, and derive the genotype."""

    data: SearchDataConfig = field(default_factory=SearchDataConfig)
    model: SearchModelConfig = field(default_factory=SearchModelConfig)
    optim: SearchOptimConfig = field(default_factory=SearchOptimConfig)
    arch_optim: ArchOptimConfig = field(default_factory=ArchOptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    runtime: SearchRuntimeConfig = field(default_factory=SearchRuntimeConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
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
