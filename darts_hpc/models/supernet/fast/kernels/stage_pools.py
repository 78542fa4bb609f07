"""A stage's pools and skips as one differentiable function of few kernels, those of pools.py."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from darts_hpc.models.norm import Statistics, statistics
from darts_hpc.models.supernet.fast.kernels.channel_sums import ChannelSums
from darts_hpc.models.supernet.fast.kernels.launching import FINISH, accumulator, ceil_div, launch, padded, tiling


def stage_pools(x: Tensor, mixing_weights: Tensor, sizes: tuple[int, int, int], norm: nn.Module) -> Tensor:
    """Mix the states' max and average pools, normalised, and at stride 1 the states themselves into the out-edges.

    Differentiable once, and only with the batch's statistics.

    Args:
        x: (B, S * C, H, W).
        mixing_weights: (E * kinds * S), the kinds being max, average and, at stride 1, skip.
        sizes: states S, out-edges E, stride.
        norm: an nn.BatchNorm2d whose last channels are those of the pools, kind by kind.

    Returns:
        (B, E, C, H', W').
    """
    assert isinstance(norm, nn.BatchNorm2d)
    return _StagePools.apply(
        x, mixing_weights, sizes, statistics(norm, slice(norm.num_features - 2 * x.shape[1], None))
    )  # pyright: ignore[reportReturnType]


class _StagePools(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, mixing_weights: Tensor, sizes: tuple[int, int, int], norm: Statistics
    ) -> Tensor:
        from darts_hpc.models.supernet.fast.kernels import pools

        x, mixing_weights = x.contiguous(), mixing_weights.contiguous()
        states, edges, stride = sizes
        batch, channels, height, width = x.shape
        c = channels // states
        out_height, out_width = ceil_div(height, stride), ceil_div(width, stride)
        pixels = out_height * out_width
        block, tiles, rows = tiling(batch, pixels, c)
        acc = accumulator(x.dtype)[1]
        pooled = x.new_empty(batch, 2 * channels, out_height, out_width)
        winner = x.new_empty(batch, channels, out_height, out_width, dtype=torch.int8)
        sums = ChannelSums(norm, pooled, rows)
        tile: dict[str, Any] = {"C": c, "ACC": acc, "BC": padded(c), "BLOCK": block}
        image = {"H": height, "W": width, "OUT_H": out_height, "OUT_W": out_width, "STRIDE": stride}
        launch(
            pools.pool, (rows, states), x, pooled, winner, *sums.partial, tiles, states,
            STATISTICS=norm.of_batch, **image, **tile,
        )  # fmt: skip
        mean, inv_std = sums.finish(tiles, block)
        total = x.new_empty(batch, edges, c, out_height, out_width)
        launch(
            pools.mix, (rows, edges), pooled, mean, inv_std, x, mixing_weights, total, tiles, states, edges,
            SKIPS=stride == 1, PIXELS=pixels, **tile,
        )  # fmt: skip
        ctx.sizes, ctx.image, ctx.tile = sizes, image, tile
        ctx.save_for_backward(x, mixing_weights, pooled, winner, mean, inv_std)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # pyright: ignore[reportIncompatibleMethodOverride]
        from darts_hpc.models.supernet.fast.kernels import pools

        x, mixing_weights, pooled, winner, mean, inv_std = ctx.saved_tensors
        gradient = gradient.contiguous()
        states, edges, stride = ctx.sizes
        batch, channels, height, width = x.shape
        c, skips = channels // states, stride == 1
        groups = (3 if skips else 2) * states
        pixels = pooled.shape[2] * pooled.shape[3]
        _, tiles, rows = tiling(batch, pixels, c)
        dtype = accumulator(x.dtype)[0]
        sums, products = x.new_empty(rows, edges, c, dtype=dtype), x.new_empty(rows, edges, groups, c, dtype=dtype)
        launch(
            pools.sum_mixed_gradients, (rows, groups),
            gradient, pooled, mean, x, sums, products, tiles, states, edges, groups, PIXELS=pixels, **ctx.tile,
        )  # fmt: skip
        coefficients = x.new_empty(3, 2 * channels, dtype=dtype)
        mixing_gradient = x.new_empty(edges, groups, c, dtype=dtype)
        launch(
            pools.finish_mixed_gradients, (ceil_div(groups * c, FINISH["CHANNELS"]),),
            sums, products, mean, inv_std, mixing_weights, coefficients, mixing_gradient,
            rows, states, edges, groups, batch * pixels, C=c, **FINISH,
        )  # fmt: skip
        dx = None
        if ctx.needs_input_grad[0]:
            pooled_gradient = torch.empty_like(pooled)
            launch(
                pools.unmix, (rows, 2 * states),
                gradient, pooled, coefficients, mixing_weights, pooled_gradient, tiles, states, edges, groups,
                PIXELS=pixels, **ctx.tile,
            )  # fmt: skip
            dx = torch.empty_like(x)
            block, tiles, rows = tiling(batch, height * width, c)
            launch(
                pools.pool_backward, (rows, states),
                pooled_gradient, winner, gradient, mixing_weights, dx, tiles, states, edges, groups,
                SKIPS=skips, **ctx.image, **{**ctx.tile, "BLOCK": block},
            )  # fmt: skip
        return dx, mixing_gradient.sum(-1).flatten().to(mixing_weights.dtype), None, None
