"""How a search computes its steps: number formats, CUDA graphs, compiled cells."""

from dataclasses import dataclass
from typing import Literal, get_args

SearchPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class SearchSpeedConfig:
    """How the steps are computed on a GPU; finite differences stay in full float32 whatever these say."""

    precision: SearchPrecision = "fp32"
    """bf16 computes what gains from it in bfloat16 (autocast); weights, alphas and statistics stay float32."""
    tf32: bool = True
    """Let an NVIDIA GPU round the factors of float32 products to TF32, as torch does for convolutions by itself."""
    cuda_graph: bool = True
    """Replay the whole step as one CUDA graph, where that is possible; a log line says where it is not."""
    compile: bool = False
    """Compile the cells with torch.compile: minutes at the start, then fewer kernels a step."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(SearchPrecision):
            raise ValueError(f"--precision {self.precision!r}: expected one of {', '.join(get_args(SearchPrecision))}")
