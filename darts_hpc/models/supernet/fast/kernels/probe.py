"""Check that the kernels run here: Triton, its C compiler, and the GPU's shared memory, which wide branches need."""

from typing import Any

import torch

from darts_hpc.models.supernet.fast.kernels.launching import launch, padded, tiling

PIXELS = 128


def probe(device: torch.device, channels: int) -> None:
    """Run the most demanding kernel, for branches of so many channels, and check its output.

    Raises whatever Triton raises, and RuntimeError for a wrong result.
    """
    import triton.language as tl

    from darts_hpc.models.supernet.fast.kernels.separable import pointwise_backward

    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, device=device)

    branches = 2  # of one edge
    block, tiles, rows = tiling(1, PIXELS, channels)
    outputs, coefficients = (branches, channels, PIXELS), ones(3, branches, channels)
    dz, by_chunk = ones(*outputs), ones(1, branches, channels, channels)
    tile: dict[str, Any] = {"C": channels, "PIXELS": PIXELS, "BC": padded(channels), "BLOCK": block}
    launch(
        pointwise_backward, (1, branches),
        ones(1, channels, PIXELS), ones(*outputs), coefficients, ones(branches, channels, channels), ones(*outputs),
        dz, by_chunk, tiles, rows, branches, 1, branches,
        WEIGHTS=True, PRECISION="tf32x3", ACC=tl.float32, **tile,
    )  # fmt: skip
    # each gradient is 1 + 1 + 1; dz sums them over the channels, the weights' gradient over the pixels
    if not (dz.eq(3 * channels).all() and by_chunk.eq(3 * PIXELS).all()):
        raise RuntimeError("a kernel gave a wrong result")
