"""Candidate operations of an edge (original operations.py). Submodules keep the original's names: state dicts load."""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc import counter_rng
from darts_hpc.space.phases import (
    can_split,
    depthwise,
    device_type,
    even_pixels,
    is_plain,
    merge_phases,
    phases_pay,
    split_phases,
)
from darts_hpc.space.recording import is_computed, is_exported, is_scripting


class ReLUConvBN(nn.Module):
    """ReLU, convolution, BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, *, affine: bool = True):
        super().__init__()
        padding = kernel_size // 2
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def _depthwise_pointwise(in_channels: int, out_channels: int, kernel_size: int, stride: int, dilation: int) -> list:
    padding = dilation * (kernel_size // 2)
    by_channel = nn.Conv2d(
        in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels, bias=False
    )
    return [by_channel, nn.Conv2d(in_channels, out_channels, 1, bias=False)]


class SeparableConv(nn.Module):
    """ReLU, depthwise, pointwise, BatchNorm, twice; the stride is in the first half."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            *_depthwise_pointwise(channels, channels, kernel_size, stride, 1),
            nn.BatchNorm2d(channels, affine=affine),
            nn.ReLU(inplace=True),
            *_depthwise_pointwise(channels, channels, kernel_size, 1, 1),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)

    def pre_norm(self, rectified: Tensor) -> Tensor:
        """Return what lies between the first ReLU and the last BatchNorm, op[-1]."""
        return _pre_norm(self.op, rectified)


class DilatedConv(nn.Module):
    """ReLU, depthwise with dilation 2, pointwise, BatchNorm."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.op = nn.Sequential(
            nn.ReLU(),
            *_depthwise_pointwise(channels, channels, kernel_size, stride, 2),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not is_scripting() and self.phases_pay(x):
            rectified = self.op[0](x)
            if self.stride == 2:
                return self.op[-1](self.pre_norm_phases(even_pixels(rectified)))
            if can_split(x, self.kernel_size):
                return merge_phases(self.op[-1](self.pre_norm_phases(split_phases(rectified))))
        return self.op(x)

    @torch.jit.unused
    def phases_pay(self, x: Tensor) -> bool:
        """Return whether this convolution is faster in phases of x, where x can be split."""
        return phases_pay(x) and is_plain(self.op[1])

    def pre_norm(self, rectified: Tensor) -> Tensor:
        """Return what lies between the first ReLU and the last BatchNorm, op[-1]."""
        return _pre_norm(self.op, rectified)

    def pre_norm_phases(self, phases: Tensor) -> Tensor:
        """Return the same in phases: of all phases for stride 1, of the even pixels for stride 2."""
        by_channel, pointwise = self.op[1], self.op[2]
        assert isinstance(by_channel, nn.Conv2d)
        return pointwise(depthwise(phases, by_channel.weight))


def _pre_norm(sequence: nn.Sequential, x: Tensor) -> Tensor:
    for module in list(sequence)[1:-1]:
        x = module(x)
    return x


class FactorizedReduce(nn.Module):
    """Halve the resolution: two 1x1 convolutions of stride 2, one a pixel off, give half of the channels each.

    An odd side is padded by one at its end for the shifted half, so that both halves round up, as the pools do.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True):
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"--init_channels must be even: a reduction splits {out_channels} channels in two halves")
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pre_norm(self.relu(x)))

    def pre_norm(self, rectified: Tensor) -> Tensor:
        """Return what lies between the ReLU and the BatchNorm."""
        height, width = rectified.shape[-2:]
        end = (0, width % 2, 0, height % 2)
        if not is_scripting() and is_exported():
            end = (0, 1, 0, 1)  # one graph for any side: at an even one, the stride skips the padding
        padded = rectified
        if is_scripting() or not self._needs_no_padding(rectified):
            padded = F.pad(rectified, end)
        shifted = padded[:, :, 1:, 1:]
        if not is_scripting() and self._strides_are_unsafe(rectified):
            parts = (rectified, self.conv_1), (shifted, self.conv_2)
            return torch.cat([F.conv2d(part[:, :, ::2, ::2], conv.weight) for part, conv in parts], dim=1)
        return torch.cat([self.conv_1(rectified), self.conv_2(shifted)], dim=1)

    def pre_norm_pixels(self, even: Tensor, odd: Tensor) -> Tensor:
        """Return the same of the even and the odd pixels of what the ReLU returns, without a stride: see phases.py.

        Four times less to read and to differentiate, and edges from one state share the pixels; the sum over pixels,
        in the weights' gradient, is in another order.
        """
        return torch.cat([F.conv2d(even, self.conv_1.weight), F.conv2d(odd, self.conv_2.weight)], dim=1)

    def has_plain_convolutions(self) -> bool:
        """Return whether both convolutions may be computed from their weights."""
        return is_plain(self.conv_1) and is_plain(self.conv_2)

    @torch.jit.unused
    def _needs_no_padding(self, x: Tensor) -> bool:
        """Whether to leave out a padding by nothing, which would copy. A recorded program pads for any side."""
        return is_computed(x) and x.shape[-2] % 2 == 0 and x.shape[-1] % 2 == 0

    @torch.jit.unused
    def _strides_are_unsafe(self, x: Tensor) -> bool:
        """Whether to take every other pixel first, and convolve without a stride: the same sum.

        With so few channels, channels last, the gradient of a strided 1x1 convolution writes beyond its memory (oneDNN
        as in torch 2.15).
        """
        few = is_computed(x) and x.device.type == "cpu" and x.shape[1] < 8
        return few and self.has_plain_convolutions()


class Zero(nn.Module):
    """No connection. New zeros instead of the original's x * 0, which turns an infinity into NaN."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """Standard normal numbers of the input's shape, whatever the input: a candidate that should never win (space s4).

    The numbers of an image are a pure function of its key and of `place`, its number among the network's noise
    operations; without keys they are a function of the image's position in the batch.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride, self.place = stride, 0

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        keys = torch.arange(len(x), device=x.device) if keys is None else keys
        keys = counter_rng.random_bits(keys, self.place, NOISE)
        shape = x.shape[1], *(-(-side // self.stride) for side in x.shape[2:])
        normal = _normal_on_cpu if device_type(x) == "cpu" else counter_rng.normal_images
        return normal(keys, shape, x.dtype).to(x.dtype)


def _normal_on_cpu(keys: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return what normal_images does, from torch's generator, seeded by each image's key: faster on a CPU."""
    channels, height, width = shape
    dtype = dtype if dtype == torch.float64 else torch.float32
    numbers = torch.empty(len(keys), height, width, channels, dtype=dtype, device=keys.device)
    if type(keys) is Tensor and keys.device.type == "cpu":  # else memory is predicted, on tensors without data
        generator = torch.Generator()
        for image, key in zip(numbers, keys.tolist(), strict=True):
            image.normal_(generator=generator.manual_seed(key))
    return numbers.permute(0, 3, 1, 2)


NOISE = 0x6E6F6973
"""The last key of the noise operation's numbers, apart from other uses of an image's key."""


def place_noise(network: nn.Module) -> None:
    """Number the noise operations of a network in the order of its modules."""
    for place, noise in enumerate(m for m in network.modules() if isinstance(m, Noise)):
        noise.place = place


def _conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def _normalised(pool: nn.Module, channels: int) -> nn.Module:
    """Put a BatchNorm without weights behind a pool, under the names of DrNAS' state dicts."""
    return nn.Sequential(OrderedDict(op=nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))))


def _skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)


# name -> build(channels, stride, affine)
OPERATIONS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda c, stride, affine: Zero(stride),
    "max_pool_3x3": lambda c, stride, affine: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda c, stride, affine: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
    "skip_connect": _skip_connect,
    "sep_conv_3x3": lambda c, stride, affine: SeparableConv(c, 3, stride, affine),
    "sep_conv_5x5": lambda c, stride, affine: SeparableConv(c, 5, stride, affine),
    "sep_conv_7x7": lambda c, stride, affine: SeparableConv(c, 7, stride, affine),
    "dil_conv_3x3": lambda c, stride, affine: DilatedConv(c, 3, stride, affine),
    "dil_conv_5x5": lambda c, stride, affine: DilatedConv(c, 5, stride, affine),
    "conv_7x1_1x7": _conv_7x1_1x7,
    "noise": lambda c, stride, affine: Noise(stride),
    "max_pool_3x3_bn": lambda c, stride, affine: _normalised(OPERATIONS["max_pool_3x3"](c, stride, affine), c),
    "avg_pool_3x3_bn": lambda c, stride, affine: _normalised(OPERATIONS["avg_pool_3x3"](c, stride, affine), c),
}
