"""A stage's convolutions as one differentiable function of few kernels, those of separable.py and batch_norms.py."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from darts_hpc.models.norm import Statistics, statistics
from darts_hpc.models.supernet.fast.kernels.channel_sums import ChannelSums
from darts_hpc.models.supernet.fast.kernels.launching import FINISH, accumulator, ceil_div, launch, padded, tiling
from darts_hpc.models.supernet.fast.layout import DIL, SEP_A, SEP_B

MOST_CHANNELS = 128
"""Most channels of a branch: a larger tile does not fit into the registers."""
CHUNKS = 64
"""Most partial sums of a weight's gradient, that is, programs that work on one branch."""


def stage_convolutions(
    x: Tensor,
    depthwise3: Tensor,
    depthwise5: Tensor,
    pointwise: Tensor,
    mixing_weights: Tensor,
    sizes: tuple[int, int, int],
    half_norm: nn.Module,
    out_norm: nn.Module,
) -> Tensor:
    """Sum a stage's separable and dilated convolutions, normalised and times their mixing weights, into its out-edges.

    Differentiable once, and only with the batch's statistics.

    Args:
        x: (B, S * C, H, W), not yet rectified.
        depthwise3, depthwise5: (role 3, S * E, taps 9, C) and (.., 25, C).
        pointwise: (role 3, S * E, kind 2, C out, C in).
        mixing_weights: (2 * 2 * S * E * C): of the dilated branches, then of the separable ones, for each channel.
        sizes: states S, out-edges E, stride.
        half_norm: the nn.BatchNorm2d within the separable convolutions.
        out_norm: the nn.BatchNorm2d at the end, whose first channels are those of `mixing_weights`.

    Returns:
        (B, E, C, H', W').
    """
    assert isinstance(half_norm, nn.BatchNorm2d) and isinstance(out_norm, nn.BatchNorm2d)
    channels = len(mixing_weights) // 2
    dilated, separable = statistics(out_norm, slice(channels)), statistics(out_norm, slice(channels, 2 * channels))
    norms = {SEP_A: statistics(half_norm), DIL: dilated, SEP_B: separable}
    return _StageConvolutions.apply(x, depthwise3, depthwise5, pointwise, mixing_weights, sizes, norms)  # pyright: ignore[reportReturnType]


class _Input(NamedTuple):
    """What branches read: relu(x), or relu of x normalised."""

    x: Tensor
    groups: int
    height: int
    width: int
    stride: int = 1
    dilation: int = 1
    mean: Tensor | None = None
    inv_std: Tensor | None = None

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and 1 / standard deviation, or stand-ins that are not read."""
        return (self.x, self.x) if self.mean is None or self.inv_std is None else (self.mean, self.inv_std)


class _Output(NamedTuple):
    """What branches give: (B, branches * C, H', W') before BatchNorm, what normalises it, and depthwise outputs."""

    raw: Tensor
    mean: Tensor
    inv_std: Tensor
    z: Tensor | None


class _StageConvolutions(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        x: Tensor,
        depthwise3: Tensor,
        depthwise5: Tensor,
        pointwise: Tensor,
        mixing_weights: Tensor,
        sizes: tuple[int, int, int],
        norms: dict[int, Statistics],
    ) -> Tensor:
        x, mixing_weights = x.contiguous(), mixing_weights.contiguous()
        stage = _Stage(x, depthwise3, depthwise5, pointwise, sizes, needs_weights=any(ctx.needs_input_grad[1:4]))
        half = stage.convolve(stage.source(SEP_A), SEP_A, norms[SEP_A])
        dilated = stage.convolve(stage.source(DIL), DIL, norms[DIL])
        separable = stage.convolve(stage.source(SEP_B, half), SEP_B, norms[SEP_B])
        ctx.sizes = sizes
        ctx.save_for_backward(x, depthwise3, depthwise5, pointwise, mixing_weights, *half, *dilated, *separable)
        return stage.sum_into_nodes(dilated, separable, mixing_weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, depthwise3, depthwise5, pointwise, mixing_weights, *outputs = ctx.saved_tensors
        half, dilated, separable = (_Output._make(outputs[start : start + 4]) for start in (0, 4, 8))
        needs_x = ctx.needs_input_grad[0]
        gradient = gradient.contiguous()
        stage = _Stage(x, depthwise3, depthwise5, pointwise, ctx.sizes, needs_weights=any(ctx.needs_input_grad[1:4]))
        mixing_gradient = torch.empty_like(mixing_weights)
        dil_mixing, sep_mixing = mixing_weights.chunk(2)
        dil_mixing_gradient, sep_mixing_gradient = mixing_gradient.chunk(2)

        source = stage.source(SEP_B, half)
        coefficients = stage.node_backward(gradient, separable, sep_mixing, sep_mixing_gradient)
        dz = stage.pointwise_backward(gradient, coefficients, separable, SEP_B, torch.empty_like(half.raw))
        stage.add_depthwise_weight_gradient(dz, source, SEP_B)
        half_gradient = torch.empty_like(half.raw)
        coefficients = stage.depthwise_backward(dz, source, SEP_B, half_gradient)
        dz = stage.pointwise_backward(half_gradient, coefficients, half, SEP_A, dz)
        del half_gradient

        source, dx = stage.source(SEP_A), torch.empty_like(x)
        stage.add_depthwise_weight_gradient(dz, source, SEP_A)
        if needs_x:
            stage.depthwise_backward(dz, source, SEP_A, dx)
        source = stage.source(DIL)
        coefficients = stage.node_backward(gradient, dilated, dil_mixing, dil_mixing_gradient)
        dz = stage.pointwise_backward(gradient, coefficients, dilated, DIL, dz)
        stage.add_depthwise_weight_gradient(dz, source, DIL)
        if needs_x:
            stage.depthwise_backward(dz, source, DIL, dx, add=True)
        return dx if needs_x else None, *stage.weight_gradients(), mixing_gradient, None, None


class _Stage:
    """The kernels' launches for the sizes of one stage. Weights are taken by role."""

    def __init__(
        self,
        x: Tensor,
        depthwise3: Tensor,
        depthwise5: Tensor,
        pointwise: Tensor,
        sizes: tuple[int, int, int],
        needs_weights: bool,
    ):
        from darts_hpc.models.supernet.fast.kernels import batch_norms, separable

        self.convolutions: Any = separable
        self.norms: Any = batch_norms
        self.x, self.depthwise3, self.depthwise5, self.pointwise = x, depthwise3, depthwise5, pointwise
        self.states, self.edges, self.stride = sizes
        self.batch, channels, self.height, self.width = x.shape
        self.c = channels // self.states
        self.out_height, self.out_width = (ceil_div(side, self.stride) for side in (self.height, self.width))
        self.pixels = self.out_height * self.out_width
        self.branches = 2 * self.states * self.edges
        self.channels = self.branches * self.c
        self.padded = padded(self.c)
        self.dtype, self.accumulator = accumulator(x.dtype)
        self.block, self.tiles, self.rows = tiling(self.batch, self.pixels, self.c)
        self.chunks = min(CHUNKS, self.rows)
        self.needs_weights = needs_weights
        self._sums: tuple[Tensor, Tensor] | None = None

    def source(self, role: int, half: _Output | None = None) -> _Input:
        """Return what the branches of a role read: the states, or the first halves."""
        if half is not None:
            return _Input(
                half.raw, self.branches, self.out_height, self.out_width, mean=half.mean, inv_std=half.inv_std
            )
        return _Input(self.x, self.states, self.height, self.width, self.stride, 2 if role == DIL else 1)

    def convolve(self, source: _Input, role: int, norm: Statistics) -> _Output:
        """Run the branches of a role, and sum what their BatchNorms need."""
        block, tiles, rows = tiling(self.batch, self.pixels, self.c, self._tile_of_taps())
        raw = self.x.new_empty(self.batch, self.channels, self.out_height, self.out_width)
        z = torch.empty_like(raw) if self.needs_weights else None
        sums = ChannelSums(norm, raw, rows)
        launch(
            self.convolutions.convolve, (rows, self.branches),
            source.x, *source.statistics(), *self._weights(role), raw if z is None else z, raw, *sums.partial,
            tiles, source.groups, self.branches, self.branches // source.groups,
            KEEP_Z=z is not None, STATISTICS=norm.of_batch, PRECISION=self._precision(), BLOCK=block,
            **self._taps(source),
        )  # fmt: skip
        mean, inv_std = sums.finish(tiles, block)
        return _Output(raw, mean, inv_std, z)

    def sum_into_nodes(self, dilated: _Output, separable: _Output, mixing_weights: Tensor) -> Tensor:
        """Return (B, E, C, H', W')."""
        total = self.x.new_empty(self.batch, self.edges, self.c, self.out_height, self.out_width)
        dil_mixing, sep_mixing = mixing_weights.chunk(2)
        launch(
            self.norms.sum_into_nodes, (self.rows, self.edges),
            *dilated[:3], dil_mixing, *separable[:3], sep_mixing, total, self.tiles, self.states, self.edges,
            **self._tile(),
        )  # fmt: skip
        return total

    def node_backward(
        self, gradient: Tensor, output: _Output, mixing_weights: Tensor, mixing_gradient: Tensor
    ) -> Tensor:
        """Return the coefficients (3, branches * C) of the last BatchNorms' backward; write mixing_gradient."""
        sums, products = self._partial(self.rows, self.channels), self._partial(self.rows, self.channels)
        launch(
            self.norms.sum_gradients, (self.rows, self.branches),
            gradient, output.raw, output.mean, sums, products, self.tiles, self.branches, self.edges, **self._tile(),
        )  # fmt: skip
        return self._finish(sums, products, self.pixels, output.mean, output.inv_std, mixing_weights, mixing_gradient)

    def pointwise_backward(
        self, gradient: Tensor, coefficients: Tensor, output: _Output, role: int, dz: Tensor
    ) -> Tensor:
        """Write the gradient of a role's depthwise outputs into dz, and add up that of its pointwise weights.

        gradient: (B, E, C, H', W') of the nodes, or (B, branches * C, H', W') of the normalised outputs.
        """
        gradients = gradient.numel() // (self.batch * self.c * self.pixels)
        by_chunk = self._weight_sums()[1][role] if self.needs_weights else dz
        launch(
            self.convolutions.pointwise_backward, (self.chunks if self.needs_weights else self.rows, self.branches),
            gradient, output.raw, coefficients, self.pointwise[role], dz if output.z is None else output.z, dz,
            by_chunk, self.tiles, self.rows, self.branches, gradients, 1 if gradients == self.branches else 2,
            WEIGHTS=self.needs_weights, PRECISION=self._precision(), **self._tile(),
        )  # fmt: skip
        return dz

    def depthwise_backward(self, dz: Tensor, source: _Input, role: int, dx: Tensor, add: bool = False) -> Tensor:
        """Write the gradient of a role's input into dx, or add it.

        Returns the coefficients (3, branches * C) of the backward of the BatchNorm before it, if there is one.
        """
        block, tiles, rows = tiling(self.batch, source.height * source.width, self.c, self._tile_of_taps())
        channels = source.groups * self.c
        has_norm = source.mean is not None
        sums, products = (self._partial(rows, channels) if has_norm else dx for _ in range(2))
        launch(
            self.convolutions.depthwise_backward, (rows, source.groups),
            dz, *self._weights(role)[:2], source.x, *source.statistics(), dx, sums, products,
            tiles, source.groups, self.branches, self.branches // source.groups,
            ADD=add, BLOCK=block, **self._taps(source),
        )  # fmt: skip
        return self._finish(sums, products, source.height * source.width, *source.statistics()) if has_norm else dx

    def add_depthwise_weight_gradient(self, dz: Tensor, source: _Input, role: int) -> None:
        """Add up the gradient of a role's depthwise weights, where it is needed."""
        if self.needs_weights:
            launch(
                self.convolutions.depthwise_weight_gradient, (self.chunks, self.branches, 5),
                dz, source.x, *source.statistics(), self._weight_sums()[0][role],
                self.tiles, self.rows, source.groups, self.branches, self.branches // source.groups,
                BLOCK=self.block, **self._taps(source),
            )  # fmt: skip

    def weight_gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of the 3x3, 5x5 and pointwise weights, where they are needed."""
        if not self.needs_weights:
            return None, None, None
        depthwise, pointwise = (sums.sum(1) for sums in self._weight_sums())
        both = depthwise.view(3, -1, 2, 5, 5, self.c).to(self.depthwise5.dtype)
        middle, whole = both[:, :, 0, 1:4, 1:4].flatten(2, 3), both[:, :, 1].flatten(2, 3)
        return middle, whole, pointwise.view_as(self.pointwise).to(self.pointwise.dtype)

    def _weight_sums(self) -> tuple[Tensor, Tensor]:
        """Return the chunks' partial sums, depthwise (role, chunk, branch, 25, C) and pointwise (.., C, C)."""
        if self._sums is None:
            leading = 3, self.chunks, self.branches
            self._sums = self._partial(*leading, 25, self.c), self._partial(*leading, self.c, self.c)
        return self._sums

    def _finish(
        self,
        sums: Tensor,
        products: Tensor,
        pixels: int,
        mean: Tensor,
        inv_std: Tensor,
        scale: Tensor | None = None,
        scale_gradient: Tensor | None = None,
    ) -> Tensor:
        coefficients = self._partial(3, self.channels)
        launch(
            self.norms.finish_gradients, (ceil_div(self.channels, FINISH["CHANNELS"]),),
            sums, products, mean, inv_std, mean if scale is None else scale, coefficients,
            mean if scale_gradient is None else scale_gradient,
            len(sums), self.channels, self.batch * pixels, SCALED=scale is not None, **FINISH,
        )  # fmt: skip
        return coefficients

    def _partial(self, *shape: int) -> Tensor:
        return self.x.new_empty(shape, dtype=self.dtype)

    def _weights(self, role: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.depthwise3[role], self.depthwise5[role], self.pointwise[role]

    def _tile_of_taps(self) -> int:
        """Elements of a tile of the kernels whose reads are shifted: the fastest on an H200."""
        return 4096 if self.padded == 16 else 2048

    def _tile(self) -> dict[str, Any]:
        sizes = {"C": self.c, "PIXELS": self.pixels, "BC": self.padded, "BLOCK": self.block}
        return {**sizes, "ACC": self.accumulator}

    def _taps(self, source: _Input) -> dict[str, Any]:
        sizes = {"C": self.c, "H": source.height, "W": source.width, "OUT_H": self.out_height, "OUT_W": self.out_width}
        reads = {"DILATION": source.dilation, "STRIDE": source.stride, "AFFINE": source.mean is not None}
        return {**sizes, **reads, "ACC": self.accumulator, "BC": self.padded}

    def _precision(self) -> str:
        """Return how tl.dot multiplies: in three TF32 products, as exact as float32, where TF32 is not allowed."""
        if self.dtype == torch.float64:
            return "ieee"
        return "tf32" if torch.backends.cuda.matmul.allow_tf32 or self.x.dtype == torch.bfloat16 else "tf32x3"
