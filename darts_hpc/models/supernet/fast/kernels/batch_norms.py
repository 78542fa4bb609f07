"""The BatchNorms of a stage's branches: statistics, the normalised sums that are its nodes, and their gradients.

Sums of a tile go to memory and are added in a fixed order: nothing is atomic, results repeat to the bit.
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from darts_hpc.models.supernet.fast.kernels.tiles import COUNTS, in_place


@triton.jit(do_not_specialize=COUNTS)
def finish_statistics(
    sum_ptr, squares_ptr, mean_ptr, inv_std_ptr, running_mean_ptr, running_variance_ptr,
    rows, tiles, pixels, channels, count, momentum: tl.constexpr, eps: tl.constexpr,
    BLOCK: tl.constexpr, UPDATE: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Join the tiles' sums to each channel's mean and 1 / standard deviation; move the running statistics.

    Grid: (channels / CHANNELS,). In float64, as the squares' mean less the mean's square loses digits.
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    own = channel < channels
    total = tl.zeros((CHANNELS,), tl.float64)
    within = tl.zeros((CHANNELS,), tl.float64)
    between = tl.zeros((CHANNELS,), tl.float64)
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)
        size = tl.minimum(pixels - (row % tiles) * BLOCK, BLOCK)
        at = row[:, None] * channels + channel[None, :]
        mask = (row < rows)[:, None] & own[None, :]
        part = tl.load(sum_ptr + at, mask=mask, other=0.0).to(tl.float64)
        total += tl.sum(part, 0)
        between += tl.sum(part * part / size.to(tl.float64)[:, None], 0)
        within += tl.sum(tl.load(squares_ptr + at, mask=mask, other=0.0).to(tl.float64), 0)
    mean = total / count
    variance = (within + tl.maximum(between - total * mean, 0.0)) / count
    kind = mean_ptr.dtype.element_ty
    tl.store(mean_ptr + channel, mean.to(kind), mask=own)
    tl.store(inv_std_ptr + channel, (1 / tl.sqrt(variance + eps)).to(kind), mask=own)
    if UPDATE:
        size = tl.full((CHANNELS,), 0.0, tl.float64) + count
        unbiased = variance * (size / (size - 1.0))
        old_mean = tl.load(running_mean_ptr + channel, mask=own, other=0.0).to(tl.float64)
        old_variance = tl.load(running_variance_ptr + channel, mask=own, other=0.0).to(tl.float64)
        running = running_mean_ptr.dtype.element_ty
        tl.store(running_mean_ptr + channel, (old_mean + momentum * (mean - old_mean)).to(running), mask=own)
        tl.store(
            running_variance_ptr + channel, (old_variance + momentum * (unbiased - old_variance)).to(running), mask=own
        )


@triton.jit
def _add_normalised(
    total, raw_ptr, mean_ptr, inv_std_ptr, scale_ptr, first, channel, own, at, mask, ACC: tl.constexpr
):  # fmt: skip
    scale = tl.load(inv_std_ptr + first + channel, mask=own, other=0.0).to(ACC)
    mean = tl.load(mean_ptr + first + channel, mask=own, other=0.0).to(ACC)
    scale *= tl.load(scale_ptr + first + channel, mask=own, other=0.0).to(ACC)
    raw = tl.load(raw_ptr + at, mask=mask, other=0.0).to(ACC)
    return total + scale[:, None] * (raw - mean[:, None])


@triton.jit(do_not_specialize=COUNTS)
def sum_into_nodes(
    first_ptr, first_mean_ptr, first_inv_std_ptr, first_scale_ptr,
    second_ptr, second_mean_ptr, second_inv_std_ptr, second_scale_ptr, out_ptr,
    tiles, states, edges, C: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write, for each out-edge, the sum of its branches of two tensors, normalised and scaled.

    Grid: (B * tiles, edges).
    """
    index, edge = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel, own, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
    total = tl.zeros((BC, BLOCK), ACC)
    for state in range(states):
        for kind in range(2):
            branch = (state * edges + edge) * 2 + kind
            at = (image * (states * edges * 2) + branch) * C * PIXELS + within
            total = _add_normalised(
                total, first_ptr, first_mean_ptr, first_inv_std_ptr, first_scale_ptr, branch * C, channel, own, at,
                mask, ACC,
            )  # fmt: skip
            total = _add_normalised(
                total, second_ptr, second_mean_ptr, second_inv_std_ptr, second_scale_ptr, branch * C, channel, own, at,
                mask, ACC,
            )  # fmt: skip
    tl.store(
        out_ptr + (image * edges + edge) * C * PIXELS + within, total.to(out_ptr.dtype.element_ty), mask=mask
    )  # fmt: skip


@triton.jit(do_not_specialize=COUNTS)
def sum_gradients(
    gradient_ptr, raw_ptr, mean_ptr, sum_ptr, product_ptr, tiles, branches, edges,
    C: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each tile's sum of a node's gradient g, and of g * (raw - mean), for each branch of it.

    Grid: (B * tiles, branches).
    """
    index, branch = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    edge = (branch // 2) % edges
    channel, own, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
    gradient = tl.load(gradient_ptr + (image * edges + edge) * C * PIXELS + within, mask=mask, other=0.0).to(ACC)
    raw = tl.load(raw_ptr + (image * branches + branch) * C * PIXELS + within, mask=mask, other=0.0).to(ACC)
    mean = tl.load(mean_ptr + branch * C + channel, mask=own, other=0.0).to(ACC)
    to = (index * branches + branch) * C + channel
    tl.store(sum_ptr + to, tl.sum(gradient, 1), mask=own)
    tl.store(product_ptr + to, tl.sum(gradient * (raw - mean[:, None]), 1), mask=own)


@triton.jit(do_not_specialize=COUNTS)
def finish_gradients(
    sum_ptr, product_ptr, mean_ptr, inv_std_ptr, scale_ptr, coefficients_ptr, scale_gradient_ptr,
    rows, channels, count, SCALED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Join the tiles' sums to the coefficients of BatchNorm's backward, k0 * g + k1 * raw + k2, per channel.

    Also writes the gradient of the scale after it, where there is one. Grid: (channels / CHANNELS,).
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    own = channel < channels
    total = tl.zeros((CHANNELS,), tl.float64)
    product = tl.zeros((CHANNELS,), tl.float64)
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)
        at = row[:, None] * channels + channel[None, :]
        mask = (row < rows)[:, None] & own[None, :]
        total += tl.sum(tl.load(sum_ptr + at, mask=mask, other=0.0).to(tl.float64), 0)
        product += tl.sum(tl.load(product_ptr + at, mask=mask, other=0.0).to(tl.float64), 0)
    mean = tl.load(mean_ptr + channel, mask=own, other=0.0).to(tl.float64)
    inv_std = tl.load(inv_std_ptr + channel, mask=own, other=0.0).to(tl.float64)
    k0 = inv_std
    if SCALED:
        k0 *= tl.load(scale_ptr + channel, mask=own, other=0.0).to(tl.float64)
        tl.store(
            scale_gradient_ptr + channel, (product * inv_std).to(scale_gradient_ptr.dtype.element_ty), mask=own
        )  # fmt: skip
    k1 = -k0 * inv_std * inv_std * product / count
    kind = coefficients_ptr.dtype.element_ty
    tl.store(coefficients_ptr + channel, k0.to(kind), mask=own)
    tl.store(coefficients_ptr + channels + channel, k1.to(kind), mask=own)
    tl.store(coefficients_ptr + 2 * channels + channel, (-k0 * total / count - k1 * mean).to(kind), mask=own)
