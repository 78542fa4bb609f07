"""BatchNorm of few channels, as partial channels leave them, several times faster on a CPU than torch's.

Channels last, torch normalises pixel by pixel, and its work for a pixel of 4 channels is that for one of 16. Here a row
of pixels is one long vector. It differentiates twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.norm import torch_batch_norm
from darts_hpc.space.phases import device_type

FEW_CHANNELS = 8
"""From this many on, torch's BatchNorm is as fast."""


class Normalised(NamedTuple):
    """x (B, C, H, W) normalised by its batch, and what it was normalised by: mean (C,), unbiased variance (C,)."""

    x: Tensor
    mean: Tensor
    variance: Tensor


def normalise(x: Tensor, eps: float, scale: Tensor | None = None) -> Normalised:
    """Return x (B, C, H, W), channels last, with every channel's mean 0 and variance 1, times scale (C,)."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch * height, width * channels)
    scale = x.new_ones(channels) if scale is None else scale
    out, mean, variance = _NormalisedRows.apply(rows, scale, eps)  # pyright: ignore[reportGeneralTypeIssues]
    pixels = batch * height * width
    return Normalised(
        out.view(batch, height, width, channels).permute(0, 3, 1, 2), mean, variance * (pixels / max(1, pixels - 1))
    )


class _NormalisedRows(torch.autograd.Function):
    """Rows (R, W * C) with every channel normalised, times scale (C,); its mean and biased variance (C,)."""

    @staticmethod
    def forward(ctx, rows: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = _mean(rows, scale)
        centred = rows - _spread(mean, rows)
        variance = _mean(centred * centred, scale)
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(rows, scale, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        ctx.eps = eps
        return centred.mul_(_spread(scale * inverse, rows)), mean, variance

    @staticmethod
    def backward(ctx, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (rows, scale, mean, inverse), gradient = ctx.saved_tensors, gradients[0]
        if torch.is_grad_enabled():  # it is differentiated once more: these depend on the rows
            mean = _mean(rows, scale)
            inverse = (_mean((rows - _spread(mean, rows)).square(), scale) + ctx.eps).rsqrt()
        along = _mean(gradient * (rows - _spread(mean, rows)), scale)
        # scale * inverse * (gradient - mean of gradient - normalised * mean of gradient * normalised)
        factor = scale * inverse
        slope = factor * inverse.square() * along
        shift = slope * mean - factor * _mean(gradient, scale)
        of_rows = torch.addcmul(_spread(shift, rows), rows, _spread(-slope, rows))
        of_rows = torch.addcmul(of_rows, gradient, _spread(factor, rows))
        return of_rows, along * inverse * (rows.numel() // len(scale)), None


def _mean(rows: Tensor, like: Tensor) -> Tensor:
    """Return each channel's mean (C,) of rows (R, W * C); like: some (C,)."""
    return rows.sum(0).view(-1, len(like)).sum(0) / (rows.numel() // len(like))


def _spread(channels: Tensor, rows: Tensor) -> Tensor:
    """Repeat channels (C,) over the pixels of a row: (W * C,)."""
    return channels.repeat(rows.shape[1] // len(channels))


class NarrowBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d without affine parameters, its state dict and evaluation mode."""

    def forward(self, input: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise (B, C, H, W), and multiply by scale (C,)."""
        if input.shape[1] < FEW_CHANNELS and self.in_rows(input):
            return self.count(normalise(input, self.eps, scale))
        return torch_batch_norm(self, input, scale)

    def in_rows(self, x: Tensor) -> bool:
        """Return whether x can be normalised in rows, by its own batch."""
        return self.training and device_type(x) == "cpu" and x.dtype in (torch.float32, torch.float64)

    @torch.no_grad()
    def count(self, normalised: Normalised) -> Tensor:
        """Count a batch that was normalised in the running statistics, where there are some; return it."""
        if self.training and self.track_running_stats:
            assert self.num_batches_tracked is not None and self.momentum is not None
            assert self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(normalised.mean, self.momentum)
            self.running_var.lerp_(normalised.variance, self.momentum)
        return normalised.x


def normalise_apart(norms: Sequence[NarrowBatchNorm2d], x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Normalise x (B, C, H, W) by its batch, times scale (C,); each norm counts its own channels of it."""
    eps = norms[0].eps
    if x.shape[1] < FEW_CHANNELS:
        normalised = normalise(x, eps, scale)
    else:
        mean, variance = x.new_zeros(2, x.shape[1]).unbind()
        out = F.batch_norm(x, mean, variance, scale, None, True, 1.0, eps)  # a momentum of 1 leaves the batch's own
        normalised = Normalised(out, mean, variance)
    means, variances = (statistic.chunk(len(norms)) for statistic in normalised[1:])
    for norm, mean, variance in zip(norms, means, variances, strict=True):
        norm.count(Normalised(normalised.x, mean, variance))
    return normalised.x


def narrow_batch_norms(module: nn.Module) -> None:
    """Make every BatchNorm in a module a narrow one; its buffers and names stay."""
    for norm in module.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = NarrowBatchNorm2d
