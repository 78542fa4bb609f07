"""BatchNorm whose scale is handed in, so that alpha can be it."""

import torch.nn.functional as F
from torch import Tensor, nn


def batch_norm(norm: nn.Module, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Return norm(x) * scale + shift for x (B, C, H, W) and scale, shift (C,), in one pass where torch has one.

    `norm` is an nn.BatchNorm2d without affine parameters, or what took its place, such as one over several ranks.
    """
    if type(norm) is not nn.BatchNorm2d:
        out = norm(x)
        out = out if scale is None else out * scale[:, None, None]
        return out if shift is None else out + shift[:, None, None]
    if scale is not None:
        # torch's backward in channels_last on the CPU reads an expanded scale past its end (seen in 2.15).
        scale = scale.contiguous()
    moving = norm.training and norm.track_running_stats
    if moving and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, variance = (norm.running_mean, norm.running_var) if moving or not norm.training else (None, None)
    assert norm.momentum is not None
    return F.batch_norm(x, mean, variance, scale, shift, norm.training, norm.momentum, norm.eps)
