"""Tiles of the kernels, and their launch."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

FINISH: dict[str, Any] = {"ROWS": 128, "CHANNELS": 16}
"""Tile of the kernels that join partial sums."""


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **meta: Any) -> None:
    """Launch a kernel; do nothing for meta and fake tensors."""
    if any(isinstance(arg, FakeTensor) or (isinstance(arg, Tensor) and arg.is_meta) for arg in args):
        return
    # Triton 3.10 stops joining products and sums unless it is asked to
    kernel[grid](*args, enable_fp_fusion=True, **meta)


def padded(channels: int) -> int:
    """Return the channels of a tile, a power of two."""
    return max(16, _power_of_two(channels))


def tiling(batch: int, pixels: int, channels: int, elements: int = 2048) -> tuple[int, int, int]:
    """Return pixels per tile, tiles per image, and tiles in all, for tiles of at most `elements`."""
    block = max(16, min(elements // padded(channels), _power_of_two(pixels)))
    tiles = ceil_div(pixels, block)
    return block, tiles, batch * tiles


def accumulator(dtype: torch.dtype) -> tuple[torch.dtype, Any]:
    """Return the type that sums over a type's tensors are kept in: torch's and Triton's."""
    import triton.language as tl

    return (torch.float64, tl.float64) if dtype == torch.float64 else (torch.float32, tl.float32)


def ceil_div(number: int, by: int) -> int:
    """Return number / by, rounded up."""
    return -(-number // by)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
