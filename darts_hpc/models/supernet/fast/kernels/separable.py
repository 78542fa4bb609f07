"""Depthwise-pointwise convolutions of many branches at once, with the BatchNorms on either side of them.

A branch is a 3x3 (even index) or 5x5 (odd) depthwise convolution and the pointwise one after it, C channels to C. Its
input is normalised and rectified while it is read, and what BatchNorm needs of its output is summed up while it is
written, so that a normalised activation never reaches memory (batch_norms.py).

Tensors are (B, groups * C, pixels), contiguous, in float32, bfloat16 or float64; arithmetic is float32, or float64.
Depthwise weights are (edges, taps, C): a thread has all channels of its pixels, and reads their weights together. A
program works on a tile of BLOCK pixels and all C channels, padded to BC (tiles.py).
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from darts_hpc.models.supernet.fast.kernels.tiles import COUNTS, image_tile, in_place


@triton.jit
def _taps_inside(
    position, SIZE: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, KERNEL: tl.constexpr
):  # fmt: skip
    """Return which taps of a kernel read inside of a side of the image, one bit each."""
    bits = tl.zeros(position.shape, tl.int32)
    for tap in tl.static_range(KERNEL):
        at = position * STRIDE + (tap - KERNEL // 2) * DILATION
        bits |= ((at >= 0) & (at < SIZE)).to(tl.int32) << tap
    return bits


@triton.jit
def _taps_transposed(
    position, SIZE: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, KERNEL: tl.constexpr
):  # fmt: skip
    """Return which taps carry a pixel of the input to one of the output, of SIZE, one bit each."""
    bits = tl.zeros(position.shape, tl.int32)
    for tap in tl.static_range(KERNEL):
        at = position - (tap - KERNEL // 2) * DILATION
        bits |= ((at >= 0) & (at < SIZE * STRIDE) & (at % STRIDE == 0)).to(tl.int32) << tap
    return bits


@triton.jit
def _normalised(x, scale, shift, inside, AFFINE: tl.constexpr):
    """Return relu(scale * x + shift), and zero outside of the image."""
    if AFFINE:
        x = tl.where(inside[None, :], scale[:, None] * x + shift[:, None], 0.0)
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _affine(mean_ptr, inv_std_ptr, first, channel, own, AFFINE: tl.constexpr, ACC: tl.constexpr):
    """Return the scale and shift that normalise the channels from `first` on."""
    if AFFINE:
        scale = tl.load(inv_std_ptr + first + channel, mask=own, other=0.0).to(ACC)
        shift = -scale * tl.load(mean_ptr + first + channel, mask=own, other=0.0).to(ACC)
    else:
        scale = tl.full(channel.shape, 1.0, ACC)
        shift = tl.full(channel.shape, 0.0, ACC)
    return scale, shift


@triton.jit
def _depthwise(
    x_ptr, weight_ptr, scale, shift, channel, own, row, column, valid,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return (BC, BLOCK) depthwise outputs at rows and columns of the output."""
    z = tl.zeros((BC, BLOCK), ACC)
    pixel = tl.max_contiguous(tl.multiple_of(row * (STRIDE * W) + column * STRIDE, 1), 4)
    middle = x_ptr + channel[:, None] * (H * W) + pixel[None, :]
    rows = _taps_inside(row, H, STRIDE, DILATION, KERNEL)
    columns = tl.where(valid, _taps_inside(column, W, STRIDE, DILATION, KERNEL), 0)
    for i in range(KERNEL):
        in_row = tl.where(((rows >> i) & 1) != 0, columns, 0)
        for j in tl.static_range(KERNEL):
            inside = (in_row & (1 << j)) != 0
            at = middle + ((i - KERNEL // 2) * (DILATION * W) + (j - KERNEL // 2) * DILATION)
            x = tl.load(at, mask=own[:, None] & inside[None, :], other=0.0).to(ACC)
            weight = tl.load(weight_ptr + (i * KERNEL + j) * C + channel, mask=own, other=0.0)
            z += weight.to(ACC)[:, None] * _normalised(x, scale, shift, inside, AFFINE)
    return z


@triton.jit
def _branch_depthwise(
    x_ptr, weight3_ptr, weight5_ptr, branch, scale, shift, channel, own, row, column, valid,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    DILATION: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return (BC, BLOCK) depthwise outputs of a branch."""
    edge = branch // 2
    if branch % 2 == 0:
        z = _depthwise(
            x_ptr, weight3_ptr + edge * C * 9, scale, shift, channel, own, row, column, valid,
            C, H, W, 3, DILATION, STRIDE, AFFINE, ACC, BC, BLOCK,
        )  # fmt: skip
    else:
        z = _depthwise(
            x_ptr, weight5_ptr + edge * C * 25, scale, shift, channel, own, row, column, valid,
            C, H, W, 5, DILATION, STRIDE, AFFINE, ACC, BC, BLOCK,
        )  # fmt: skip
    return z


@triton.jit
def _pointwise_weight(pointwise_ptr, branch, channel, own, C: tl.constexpr, ACC: tl.constexpr):
    """Return a branch's pointwise weight (BC out, BC in)."""
    at = pointwise_ptr + branch * C * C + channel[:, None] * C + channel[None, :]
    return tl.load(at, mask=own[:, None] & own[None, :], other=0.0).to(ACC)


@triton.jit(do_not_specialize=COUNTS)
def convolve(
    x_ptr, mean_ptr, inv_std_ptr, weight3_ptr, weight5_ptr, pointwise_ptr, z_ptr, out_ptr, sum_ptr, squares_ptr,
    tiles, groups, branches, branches_of_group,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    DILATION: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr,
    KEEP_Z: tl.constexpr, STATISTICS: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each branch's output, and for each tile its channels' sum and sum of squares about the tile's mean.

    Also the depthwise output z, where the weights' gradients will need it.

    Grid: (B * tiles, branches).
    """
    index, branch = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    group = branch // branches_of_group
    channel = tl.arange(0, BC)
    own = channel < C
    pixels: tl.constexpr = OUT_H * OUT_W
    pixel, row, column, valid = image_tile(index % tiles, pixels, OUT_W, BLOCK)
    scale, shift = _affine(mean_ptr, inv_std_ptr, group * C, channel, own, AFFINE, ACC)
    z = _branch_depthwise(
        x_ptr + (image * groups + group) * C * (H * W), weight3_ptr, weight5_ptr, branch, scale, shift,
        channel, own, row, column, valid, C, H, W, DILATION, STRIDE, AFFINE, ACC, BC, BLOCK,
    )  # fmt: skip
    weight = _pointwise_weight(pointwise_ptr, branch, channel, own, C, ACC)
    out = tl.dot(weight, z, input_precision=PRECISION, out_dtype=ACC)
    mask = own[:, None] & valid[None, :]
    at = (image * branches + branch) * C * pixels + channel[:, None] * pixels + pixel[None, :]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=mask)
    if KEEP_Z:
        tl.store(z_ptr + at, z.to(z_ptr.dtype.element_ty), mask=mask)
    if STATISTICS:
        count = tl.sum(valid.to(ACC), 0)
        total = tl.sum(out, 1)
        off = tl.where(mask, out - (total / count)[:, None], 0.0)
        to = (index * branches + branch) * C + channel
        tl.store(sum_ptr + to, total, mask=own)
        tl.store(squares_ptr + to, tl.sum(off * off, 1), mask=own)


@triton.jit(do_not_specialize=COUNTS)
def pointwise_backward(
    gradient_ptr, raw_ptr, coefficients_ptr, pointwise_ptr, z_ptr, dz_ptr, weight_gradient_ptr,
    tiles, num_tiles, branches, gradients, branches_of_gradient, C: tl.constexpr, PIXELS: tl.constexpr,
    WEIGHTS: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of each branch's depthwise output; sum up its pointwise weight's over a chunk of the tiles.

    Grid: (chunks, branches).
    """
    chunk, branch = tl.program_id(0), tl.program_id(1)
    chunks = tl.num_programs(0)
    gradient_group = (branch // branches_of_gradient) % gradients
    channel = tl.arange(0, BC)
    own = channel < C
    k0 = tl.load(coefficients_ptr + branch * C + channel, mask=own, other=0.0).to(ACC)
    k1 = tl.load(coefficients_ptr + (branches + branch) * C + channel, mask=own, other=0.0).to(ACC)
    k2 = tl.load(coefficients_ptr + (2 * branches + branch) * C + channel, mask=own, other=0.0).to(ACC)
    weight = tl.trans(_pointwise_weight(pointwise_ptr, branch, channel, own, C, ACC))
    summed = tl.zeros((BC, BC), ACC)
    for index in range(chunk, num_tiles, chunks):
        image = (index // tiles).to(tl.int64)
        _, _, within, mask = in_place(index % tiles, C, PIXELS, BC, BLOCK)
        at = gradient_ptr + (image * gradients + gradient_group) * C * PIXELS + within
        gradient = tl.load(at, mask=mask, other=0.0).to(ACC)
        at = (image * branches + branch) * C * PIXELS + within
        raw = tl.load(raw_ptr + at, mask=mask, other=0.0).to(ACC)
        gradient = tl.where(mask, k0[:, None] * gradient + k1[:, None] * raw + k2[:, None], 0.0)
        dz = tl.dot(weight, gradient, input_precision=PRECISION, out_dtype=ACC)
        tl.store(dz_ptr + at, dz.to(dz_ptr.dtype.element_ty), mask=mask)
        if WEIGHTS:
            z = tl.load(z_ptr + at, mask=mask, other=0.0).to(ACC)
            summed = tl.dot(gradient, tl.trans(z), summed, input_precision=PRECISION, out_dtype=ACC)
    if WEIGHTS:
        to = weight_gradient_ptr + (chunk * branches + branch) * C * C + channel[:, None] * C + channel[None, :]
        tl.store(to, summed, mask=own[:, None] & own[None, :])


@triton.jit
def _depthwise_transposed(
    dz_ptr, weight_ptr, channel, own, row, column, valid,
    C: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return (BC, BLOCK) gradients of the depthwise input at rows and columns of the input."""
    dx = tl.zeros((BC, BLOCK), ACC)
    pixel = tl.max_contiguous(tl.multiple_of(row * OUT_W + column, 1), 4)
    middle = dz_ptr + channel[:, None] * (OUT_H * OUT_W) + pixel[None, :]  # for a stride of 1
    rows = _taps_transposed(row, OUT_H, STRIDE, DILATION, KERNEL)
    columns = tl.where(valid, _taps_transposed(column, OUT_W, STRIDE, DILATION, KERNEL), 0)
    for i in range(KERNEL):
        in_row = tl.where(((rows >> i) & 1) != 0, columns, 0)
        for j in tl.static_range(KERNEL):
            inside = (in_row & (1 << j)) != 0
            if STRIDE == 1:
                at = middle - ((i - KERNEL // 2) * (DILATION * OUT_W) + (j - KERNEL // 2) * DILATION)
            else:
                h = (row - (i - KERNEL // 2) * DILATION) // STRIDE
                w = (column - (j - KERNEL // 2) * DILATION) // STRIDE
                at = (
                    dz_ptr
                    + channel[:, None] * (OUT_H * OUT_W)
                    + tl.max_contiguous(tl.multiple_of(h * OUT_W + w, 1), 4)[None, :]
                )
            dz = tl.load(at, mask=own[:, None] & inside[None, :], other=0.0).to(ACC)
            weight = tl.load(weight_ptr + (i * KERNEL + j) * C + channel, mask=own, other=0.0)
            dx += weight.to(ACC)[:, None] * dz
    return dx


@triton.jit(do_not_specialize=COUNTS)
def depthwise_backward(
    dz_ptr, weight3_ptr, weight5_ptr, x_ptr, mean_ptr, inv_std_ptr, dx_ptr, sum_ptr, product_ptr,
    tiles, groups, branches, branches_of_group,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    DILATION: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr,
    ADD: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write each input group's gradient before its ReLU, or add to it.

    With AFFINE, also each tile's sum of it and of it * (x - mean), for the BatchNorm before. Grid: (B * tiles, groups).
    """
    index, group = tl.program_id(0), tl.program_id(1)
    image = (index // tiles).to(tl.int64)
    channel = tl.arange(0, BC)
    own = channel < C
    pixels: tl.constexpr = H * W
    out_pixels: tl.constexpr = OUT_H * OUT_W
    pixel, row, column, valid = image_tile(index % tiles, pixels, W, BLOCK)
    dx = tl.zeros((BC, BLOCK), ACC)
    if not AFFINE:
        for pair in range(branches_of_group // 2):
            edge = group * (branches_of_group // 2) + pair
            from_ptr = dz_ptr + (image * branches + 2 * edge) * C * out_pixels
            dx += _depthwise_transposed(
                from_ptr, weight3_ptr + edge * C * 9, channel, own, row, column, valid, C, OUT_H, OUT_W,
                3, DILATION, STRIDE, ACC, BC, BLOCK,
            )  # fmt: skip
            dx += _depthwise_transposed(
                from_ptr + C * out_pixels, weight5_ptr + edge * C * 25, channel, own, row, column, valid, C, OUT_H,
                OUT_W, 5, DILATION, STRIDE, ACC, BC, BLOCK,
            )  # fmt: skip
    else:
        edge = group // 2
        from_ptr = dz_ptr + (image * branches + group) * C * out_pixels
        if group % 2 == 0:
            dx += _depthwise_transposed(
                from_ptr, weight3_ptr + edge * C * 9, channel, own, row, column, valid, C, OUT_H, OUT_W,
                3, DILATION, STRIDE, ACC, BC, BLOCK,
            )  # fmt: skip
        else:
            dx += _depthwise_transposed(
                from_ptr, weight5_ptr + edge * C * 25, channel, own, row, column, valid, C, OUT_H, OUT_W,
                5, DILATION, STRIDE, ACC, BC, BLOCK,
            )  # fmt: skip
    mask = own[:, None] & valid[None, :]
    at = (image * groups + group) * C * pixels + channel[:, None] * pixels + pixel[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(ACC)
    scale, shift = _affine(mean_ptr, inv_std_ptr, group * C, channel, own, AFFINE, ACC)
    dx = tl.where(mask & (scale[:, None] * x + shift[:, None] > 0.0), dx, 0.0)
    if ADD:
        dx += tl.load(dx_ptr + at, mask=mask, other=0.0).to(ACC)
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=mask)
    if AFFINE:
        mean = tl.load(mean_ptr + group * C + channel, mask=own, other=0.0).to(ACC)
        to = (index * groups + group) * C + channel
        tl.store(sum_ptr + to, tl.sum(dx, 1), mask=own)
        tl.store(product_ptr + to, tl.sum(dx * (x - mean[:, None]), 1), mask=own)


@triton.jit
def _input_at(
    middle, scale, shift, own, in_row,
    TAP: tl.constexpr, DILATION: tl.constexpr, AFFINE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    inside = (in_row & (1 << TAP)) != 0
    x = tl.load(middle + (TAP - 2) * DILATION, mask=own[:, None] & inside[None, :], other=0.0).to(ACC)
    return _normalised(x, scale, shift, inside, AFFINE)


@triton.jit(do_not_specialize=COUNTS)
def depthwise_weight_gradient(
    dz_ptr, x_ptr, mean_ptr, inv_std_ptr, weight_gradient_ptr,
    tiles, num_tiles, groups, branches, branches_of_group,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    DILATION: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr,
    ACC: tl.constexpr, BC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum up one row of each branch's depthwise weight gradient over a chunk of the tiles.

    A 3x3 kernel is the middle of a 5x5 one; what lies around it is left unwritten. Grid: (chunks, branches, 5 rows).
    """
    chunk, branch, kernel_row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    chunks = tl.num_programs(0)
    if branch % 2 == 1 or (kernel_row > 0 and kernel_row < 4):
        group = branch // branches_of_group
        channel = tl.arange(0, BC)
        own = channel < C
        pixels: tl.constexpr = OUT_H * OUT_W
        scale, shift = _affine(mean_ptr, inv_std_ptr, group * C, channel, own, AFFINE, ACC)
        sum0 = tl.zeros((BC, BLOCK), ACC)
        sum1 = tl.zeros((BC, BLOCK), ACC)
        sum2 = tl.zeros((BC, BLOCK), ACC)
        sum3 = tl.zeros((BC, BLOCK), ACC)
        sum4 = tl.zeros((BC, BLOCK), ACC)
        for index in range(chunk, num_tiles, chunks):
            image = (index // tiles).to(tl.int64)
            pixel, row, column, valid = image_tile(index % tiles, pixels, OUT_W, BLOCK)
            at = (image * branches + branch) * C * pixels + channel[:, None] * pixels + pixel[None, :]
            dz = tl.load(dz_ptr + at, mask=own[:, None] & valid[None, :], other=0.0).to(ACC)
            h = row * STRIDE + (kernel_row - 2) * DILATION
            in_row = tl.where(valid & (h >= 0) & (h < H), _taps_inside(column, W, STRIDE, DILATION, 5), 0)
            x = x_ptr + (image * groups + group) * C * (H * W) + channel[:, None] * (H * W)
            x += tl.max_contiguous(tl.multiple_of(h * W + column * STRIDE, 1), 4)[None, :]
            sum0 += dz * _input_at(x, scale, shift, own, in_row, 0, DILATION, AFFINE, ACC)
            sum1 += dz * _input_at(x, scale, shift, own, in_row, 1, DILATION, AFFINE, ACC)
            sum2 += dz * _input_at(x, scale, shift, own, in_row, 2, DILATION, AFFINE, ACC)
            sum3 += dz * _input_at(x, scale, shift, own, in_row, 3, DILATION, AFFINE, ACC)
            sum4 += dz * _input_at(x, scale, shift, own, in_row, 4, DILATION, AFFINE, ACC)
        to = weight_gradient_ptr + ((chunk * branches + branch) * 25 + kernel_row * 5) * C + channel
        tl.store(to, tl.sum(sum0, 1), mask=own)
        tl.store(to + C, tl.sum(sum1, 1), mask=own)
        tl.store(to + 2 * C, tl.sum(sum2, 1), mask=own)
        tl.store(to + 3 * C, tl.sum(sum3, 1), mask=own)
        tl.store(to + 4 * C, tl.sum(sum4, 1), mask=own)
