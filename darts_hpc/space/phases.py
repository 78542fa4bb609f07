"""The four phases of an image: its pixels by the parity of their row and column.

A convolution of dilation 2 reads, for an output of one phase, inputs of that phase only: it is four ordinary
convolutions, one per phase, and of stride 2 the one over the first phase. The same function; CPU libraries have no
fast backward for dilation (6 to 12 times slower in torch 2.15), so there it pays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.space.recording import is_computed

_meta_stands_for: ContextVar[str] = ContextVar("_meta_stands_for", default="meta")


def phases_pay(x: Tensor) -> bool:
    """Return whether a dilated convolution of x is faster in phases: on the CPU, if there will be a backward."""
    return is_computed(x) and device_type(x) == "cpu" and torch.is_grad_enabled()


def is_plain(module: nn.Module, kind: type[nn.Module] = nn.Conv2d) -> bool:
    """Return whether a convolution, or a module of another kind, may be computed from its weights instead of called.

    Not where it was wrapped, as by LoRA, parametrised, quantised, or given hooks.
    """
    hooks = (
        module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks,
    )  # fmt: skip
    return type(module) is kind and not any(hooks) and "forward" not in vars(module)


def device_type(x: Tensor) -> str:
    """Return the type of x's device, or the type that a meta tensor stands in for."""
    return x.device.type if x.device.type != "meta" else _meta_stands_for.get()


@contextmanager
def meta_stands_for(device: str) -> Iterator[None]:
    """Let meta tensors go the way that tensors of this type of device go."""
    token = _meta_stands_for.set(device)
    try:
        yield
    finally:
        _meta_stands_for.reset(token)


def can_split(x: Tensor, kernel_size: int) -> bool:
    """Return whether all phases of x (B, C, H, W) have one size, at most a pixel smaller than the kernel."""
    height, width = x.shape[-2:]
    return height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= kernel_size - 1


def even_pixels(x: Tensor) -> Tensor:
    """Return the first phase (B, C, ceil(H / 2), ceil(W / 2)): even rows and columns."""
    return x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


def odd_pixels(x: Tensor) -> Tensor:
    """Return the last phase (B, C, ceil(H / 2), ceil(W / 2)): odd rows and columns, of x padded to even sides by 0."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
    return x[:, :, 1::2, 1::2].contiguous(memory_format=torch.channels_last)


def split_phases(x: Tensor) -> Tensor:
    """Return all phases (4 * B, C, H / 2, W / 2), channels last; H and W are even."""
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    phases = pixels.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return phases.permute(0, 3, 1, 2)


def merge_phases(phases: Tensor) -> Tensor:
    """Undo split_phases: return (B, C, H, W), channels last."""
    batch, channels, height, width = phases.shape
    pixels = phases.permute(0, 2, 3, 1).reshape(2, 2, batch // 4, height, width, channels)
    x = pixels.permute(2, 3, 0, 4, 1, 5).reshape(batch // 4, 2 * height, 2 * width, channels)
    return x.permute(0, 3, 1, 2)


def depthwise(phases: Tensor, weight: Tensor) -> Tensor:
    """Convolve phases (N, C, H, W) by weight (C, 1, K, K), dilation aside; return (N, C, H, W)."""
    (channels, _, _, kernel_size), (height, width) = weight.shape, phases.shape[-2:]
    # Where the kernel is larger than the image, the CPU's gradient of the weight is slow again.
    grow = max(0, kernel_size - height), max(0, kernel_size - width)
    if any(grow):
        phases = F.pad(phases, (0, grow[1], 0, grow[0]))
    out = F.conv2d(phases, weight, padding=kernel_size // 2, groups=channels)
    return out[:, :, :height, :width].contiguous(memory_format=torch.channels_last) if any(grow) else out
