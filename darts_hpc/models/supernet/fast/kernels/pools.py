"""A stage's pools and skips: 3x3 max and average pools with the BatchNorm after them, mixed into the out-edges.

A group is a pool, or a skip, of one state: (kind, state), the kinds being max, average and skip, which is the state
itself. Tensors are (B, groups * C, pixels) as in separable.py; so are tiles and sums.
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from darts_hpc.models.supernet.fast.kernels.tiles import COUNTS, image_tile, in_place

UNALIGNED = ["mixing_ptr"]
"""Mixing weights are a slice of one vector, and may begin anywhere in it."""
LOWEST = tl.constexpr(float("-inf"))


@triton.jit(do_not_specialize=COUNTS)
def pool(
    x_ptr, out_ptr, winner_ptr, sum_ptr, squares_ptr, tiles, states,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    STRIDE: tl.constexpr, STATISTICS: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the pools of each state, which pixel of a window is the first largest, and the same sums as `convolve`.

    Grid: (B * tiles, states).
    """
    index, state = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel = tl.arange(0, BC)
    own = channel < C
    pixels: tl.constexpr = OUT_H * OUT_W
    pixel, row, column, valid = image_tile(index % tiles, pixels, OUT_W, BLOCK)
    largest = tl.full((BC, BLOCK), LOWEST, ACC)
    winner = tl.zeros((BC, BLOCK), tl.int32)
    total = tl.zeros((BC, BLOCK), ACC)
    count = tl.zeros((BLOCK,), ACC)
    x_ptr += (image * states + state) * C * (H * W)
    for tap in range(9):
        h, w = row * STRIDE + tap // 3 - 1, column * STRIDE + tap % 3 - 1
        inside = valid & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        at = tl.max_contiguous(tl.multiple_of(h * W + w, 1), 4)
        x = tl.load(
            x_ptr + channel[:, None] * (H * W) + at[None, :], mask=own[:, None] & inside[None, :], other=0.0
        ).to(ACC)
        larger = inside[None, :] & ((x > largest) | (x != x))  # a NaN stays, as in torch
        largest = tl.where(larger, x, largest)
        winner = tl.where(larger, tap, winner)
        total += x
        count += inside.to(ACC)
    average = total / tl.maximum(count, 1.0)[None, :]
    mask = own[:, None] & valid[None, :]
    largest = tl.where(mask, largest, 0.0)
    within = channel[:, None] * pixels + pixel[None, :]
    kind = out_ptr.dtype.element_ty
    tl.store(out_ptr + (image * 2 * states + state) * C * pixels + within, largest.to(kind), mask=mask)
    tl.store(out_ptr + (image * 2 * states + states + state) * C * pixels + within, average.to(kind), mask=mask)
    tl.store(winner_ptr + (image * states + state) * C * pixels + within, winner.to(tl.int8), mask=mask)
    if STATISTICS:
        size = tl.sum(valid.to(ACC), 0)
        to = (index * 2 * states + state) * C + channel
        mean = tl.sum(largest, 1) / size
        off = tl.where(mask, largest - mean[:, None], 0.0)
        tl.store(sum_ptr + to, mean * size, mask=own)
        tl.store(squares_ptr + to, tl.sum(off * off, 1), mask=own)
        to += states * C
        mean = tl.sum(tl.where(mask, average, 0.0), 1) / size
        off = tl.where(mask, average - mean[:, None], 0.0)
        tl.store(sum_ptr + to, mean * size, mask=own)
        tl.store(squares_ptr + to, tl.sum(off * off, 1), mask=own)


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=UNALIGNED)
def mix(
    pools_ptr, mean_ptr, inv_std_ptr, x_ptr, mixing_ptr, out_ptr, tiles, states, edges,
    SKIPS: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each out-edge's sum of the groups times the mixing weights (E, kinds, states), the pools normalised.

    Grid: (B * tiles, edges).
    """
    index, edge = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel, own, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
    groups = (3 if SKIPS else 2) * states
    total = tl.zeros((BC, BLOCK), ACC)
    for group in range(2 * states):
        scale = tl.load(mixing_ptr + edge * groups + group).to(ACC)
        scale *= tl.load(inv_std_ptr + group * C + channel, mask=own, other=0.0).to(ACC)
        mean = tl.load(mean_ptr + group * C + channel, mask=own, other=0.0).to(ACC)
        raw = tl.load(pools_ptr + (image * 2 * states + group) * C * PIXELS + within, mask=mask, other=0.0).to(ACC)
        total += scale[:, None] * (raw - mean[:, None])
    if SKIPS:
        for state in range(states):
            x = tl.load(x_ptr + (image * states + state) * C * PIXELS + within, mask=mask, other=0.0).to(ACC)
            total += tl.load(mixing_ptr + edge * groups + 2 * states + state).to(ACC) * x
    to = out_ptr + (image * edges + edge) * C * PIXELS + within
    tl.store(to, total.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=COUNTS)
def sum_mixed_gradients(
    gradient_ptr, pools_ptr, mean_ptr, x_ptr, sum_ptr, product_ptr, tiles, states, edges, groups,
    C: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each tile's sum of every node's gradient g, and of g * (group - its mean); a skip has mean 0.

    Grid: (B * tiles, groups).
    """
    index, group = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel, own, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
    if group < 2 * states:
        raw = tl.load(pools_ptr + (image * 2 * states + group) * C * PIXELS + within, mask=mask, other=0.0).to(ACC)
        raw -= tl.load(mean_ptr + group * C + channel, mask=own, other=0.0).to(ACC)[:, None]
    else:
        at = (image * states + group - 2 * states) * C * PIXELS + within
        raw = tl.load(x_ptr + at, mask=mask, other=0.0).to(ACC)
    for edge in range(edges):
        at = (image * edges + edge) * C * PIXELS + within
        gradient = tl.load(gradient_ptr + at, mask=mask, other=0.0).to(ACC)
        to = ((index * edges + edge) * groups + group) * C + channel
        tl.store(product_ptr + to, tl.sum(gradient * raw, 1), mask=own)
        if group == 0:
            tl.store(sum_ptr + (index * edges + edge) * C + channel, tl.sum(gradient, 1), mask=own)


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=UNALIGNED)
def finish_mixed_gradients(
    sum_ptr, product_ptr, mean_ptr, inv_std_ptr, mixing_ptr, coefficients_ptr, mixing_gradient_ptr,
    rows, states, edges, groups, count, C: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Join the tiles' sums to the mixing weights' gradient (E, groups, C), and to the pools' BatchNorm backward.

    That is k0 * g + k1 * pool + k2 for g the sum of the nodes' gradients times the mixing weights. Grid: (groups * C /
    CHANNELS,).
    """
    at = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    channels = groups * C
    own = at < channels
    group, channel = at // C, at % C
    is_pool = own & (group < 2 * states)
    mean = tl.load(mean_ptr + at, mask=is_pool, other=0.0).to(tl.float64)
    inv_std = tl.load(inv_std_ptr + at, mask=is_pool, other=1.0).to(tl.float64)
    total = tl.zeros((CHANNELS,), tl.float64)
    product = tl.zeros((CHANNELS,), tl.float64)
    for edge in range(edges):
        of_edge = tl.zeros((CHANNELS,), tl.float64)
        with_raw = tl.zeros((CHANNELS,), tl.float64)
        for start in range(0, rows, ROWS):
            row = start + tl.arange(0, ROWS)
            mask = (row < rows)[:, None] & own[None, :]
            place = (row * edges + edge)[:, None]
            of_edge += tl.sum(tl.load(sum_ptr + place * C + channel[None, :], mask=mask, other=0.0).to(tl.float64), 0)
            part = tl.load(product_ptr + place * channels + at[None, :], mask=mask, other=0.0)
            with_raw += tl.sum(part.to(tl.float64), 0)
        kind = mixing_gradient_ptr.dtype.element_ty
        tl.store(mixing_gradient_ptr + edge * channels + at, (with_raw * inv_std).to(kind), mask=own)
        weight = tl.load(mixing_ptr + edge * groups + group, mask=own, other=0.0).to(tl.float64)
        total += weight * of_edge
        product += weight * with_raw
    k1 = -inv_std * inv_std * inv_std * product / count
    kind = coefficients_ptr.dtype.element_ty
    pools = 2 * states * C
    tl.store(coefficients_ptr + at, inv_std.to(kind), mask=is_pool)
    tl.store(coefficients_ptr + pools + at, k1.to(kind), mask=is_pool)
    tl.store(coefficients_ptr + 2 * pools + at, (-inv_std * total / count - k1 * mean).to(kind), mask=is_pool)


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=UNALIGNED)
def unmix(
    gradient_ptr, pools_ptr, coefficients_ptr, mixing_ptr, out_ptr, tiles, states, edges, groups,
    C: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of each pool before its BatchNorm. Grid: (B * tiles, 2 * states)."""
    index, group = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel, own, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
    mixed = tl.zeros((BC, BLOCK), ACC)
    for edge in range(edges):
        at = (image * edges + edge) * C * PIXELS + within
        mixed += tl.load(mixing_ptr + edge * groups + group).to(ACC) * tl.load(
            gradient_ptr + at, mask=mask, other=0.0
        ).to(ACC)
    of_group = coefficients_ptr + group * C + channel
    pools = 2 * states * C
    k0 = tl.load(of_group, mask=own, other=0.0).to(ACC)
    k1 = tl.load(of_group + pools, mask=own, other=0.0).to(ACC)
    k2 = tl.load(of_group + 2 * pools, mask=own, other=0.0).to(ACC)
    at = (image * 2 * states + group) * C * PIXELS + within
    raw = tl.load(pools_ptr + at, mask=mask, other=0.0).to(ACC)
    out = k0[:, None] * mixed + k1[:, None] * raw + k2[:, None]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=UNALIGNED)
def pool_backward(
    pooled_ptr, winner_ptr, gradient_ptr, mixing_ptr, dx_ptr, tiles, states, edges, groups,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    STRIDE: tl.constexpr, SKIPS: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each state's gradient from that of its pools, `pooled`, and from the nodes its skips go to.

    Grid: (B * tiles, states).
    """
    index, state = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel = tl.arange(0, BC)
    own = channel < C
    pixels: tl.constexpr = H * W
    out_pixels: tl.constexpr = OUT_H * OUT_W
    pixel, row, column, valid = image_tile(index % tiles, pixels, W, BLOCK)
    mask = own[:, None] & valid[None, :]
    dx = tl.zeros((BC, BLOCK), ACC)
    largest_ptr = pooled_ptr + (image * 2 * states + state) * C * out_pixels
    average_ptr = largest_ptr + states * C * out_pixels
    winner_ptr += (image * states + state) * C * out_pixels
    for tap in range(9):
        h, w = row - tap // 3 + 1, column - tap % 3 + 1
        inside = valid & (h >= 0) & (h < OUT_H * STRIDE) & (w >= 0) & (w < OUT_W * STRIDE)
        if STRIDE == 2:
            inside &= (h % 2 == 0) & (w % 2 == 0)
            h, w = h // 2, w // 2
        in_rows = tl.minimum(h * STRIDE + 1, H - 1) - tl.maximum(h * STRIDE - 1, 0) + 1
        in_columns = tl.minimum(w * STRIDE + 1, W - 1) - tl.maximum(w * STRIDE - 1, 0) + 1
        count = tl.maximum(in_rows * in_columns, 1).to(ACC)
        at = channel[:, None] * out_pixels + tl.max_contiguous(tl.multiple_of(h * OUT_W + w, 1), 4)[None, :]
        here = own[:, None] & inside[None, :]
        average = tl.load(average_ptr + at, mask=here, other=0.0).to(ACC)
        largest = tl.load(largest_ptr + at, mask=here, other=0.0).to(ACC)
        winner = tl.load(winner_ptr + at, mask=here, other=-1)
        dx += average / count[None, :] + tl.where(winner == tap, largest, 0.0)
    within = channel[:, None] * pixels + pixel[None, :]
    if SKIPS:
        for edge in range(edges):
            at = (image * edges + edge) * C * pixels + within
            weight = tl.load(mixing_ptr + edge * groups + 2 * states + state).to(ACC)
            dx += weight * tl.load(gradient_ptr + at, mask=mask, other=0.0).to(ACC)
    at = (image * states + state) * C * pixels + within
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
