"""BatchNorm whose scale is handed in, so that alpha can be it."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Statistics(NamedTuple):
    """What a BatchNorm normalises by, and what it leaves behind."""

    running_mean: Tensor | None
    running_variance: Tensor | None
    momentum: float
    eps: float
    of_batch: bool
    """Normalise by the batch, and move the running statistics where there are some; else by the running ones."""


def statistics(norm: nn.BatchNorm2d, channels: slice = slice(None)) -> Statistics:
    """Return the statistics of some of a norm's channels, which its next batch, this one, is counted for."""
    moving = norm.training and norm.track_running_stats
    if moving and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, variance = (norm.running_mean, norm.running_var) if moving or not norm.training else (None, None)
    assert norm.momentum is not None
    if mean is not None and variance is not None:
        mean, variance = mean[channels], variance[channels]
    return Statistics(mean, variance, norm.momentum, norm.eps, norm.training)


def batch_norm(
    norm: nn.Module,
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    channels: slice = slice(None),
) -> Tensor:
    """Return norm(x) * scale + shift for x (B, C, H, W) and scale, shift (C,), in one pass where torch has one.

    `norm` is an nn.BatchNorm2d without affine parameters, or what took its place, such as one over several ranks. Of
    an nn.BatchNorm2d, x may hold some `channels` only.
    """
    if type(norm) is not nn.BatchNorm2d:
        out = norm(x)
        out = out if scale is None else out * scale[:, None, None]
        return out if shift is None else out + shift[:, None, None]
    return torch_batch_norm(norm, x, scale, shift, channels)


def torch_batch_norm(
    norm: nn.BatchNorm2d,
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    channels: slice = slice(None),
) -> Tensor:
    """Return the same by torch's own function, in one pass."""
    if scale is not None:
        # torch's backward in channels_last on the CPU reads an expanded scale past its end (seen in 2.15).
        scale = scale.contiguous()
    mean, variance, momentum, eps, of_batch = statistics(norm, channels)
    return F.batch_norm(x, mean, variance, scale, shift, of_batch, momentum, eps)
