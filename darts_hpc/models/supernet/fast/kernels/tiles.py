"""Which pixels a kernel's program works on.

The compiler gives a thread four neighbouring pixels, to read them at once; where taps shift them, a read would become
four accesses, so hints (`multiple_of`, `max_contiguous`, which decide about width and order alone) give neighbouring
pixels to neighbouring threads.
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

COUNTS = [
    "tiles", "num_tiles", "rows", "channels", "count", "states", "edges", "groups", "branches", "branches_of_group",
    "gradients", "branches_of_gradient",
]  # fmt: skip
"""Arguments that kernels are not specialised on: compiling takes a second per kernel."""


@triton.jit
def image_tile(index, pixels, width, BLOCK: tl.constexpr):
    """Return a tile's pixels in the flattened image, their rows and columns, and which of them exist."""
    pixel = tl.max_contiguous(tl.multiple_of(index * BLOCK + tl.arange(0, BLOCK), 1), 4)
    return pixel, pixel // width, pixel % width, pixel < pixels


@triton.jit
def in_place(tile, C: tl.constexpr, PIXELS: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr):
    """Return a tile's channels and which exist (BC,), and its places within a group and which exist (BC, BLOCK)."""
    channel = tl.arange(0, BC)
    own = channel < C
    pixel = tile * BLOCK + tl.arange(0, BLOCK)
    return channel, own, channel[:, None] * PIXELS + pixel[None, :], own[:, None] & (pixel < PIXELS)[None, :]
