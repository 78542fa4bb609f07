"""A kernel that does next to nothing, to learn whether Triton works."""

# pyright: reportArgumentType=false

import torch
import triton
import triton.language as tl


@triton.jit
def _write_one(out_ptr):
    tl.store(out_ptr, 1.0)


def probe(device: torch.device) -> None:
    """Compile and run it. Raises whatever Triton raises, and RuntimeError where it ran to no effect."""
    out = torch.zeros(1, device=device)
    _write_one[(1,)](out)
    if out.item() != 1:
        raise RuntimeError("a kernel left no result")
