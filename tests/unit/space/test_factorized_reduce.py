"""The factorized reduction is the original's two strided convolutions, without what a CPU library does wrong there."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from darts_hpc.space.operations import FactorizedReduce


class StridedPointwise(TorchDispatchMode):
    """Record the input channels of every gradient of a strided 1x1 convolution."""

    def __init__(self):
        super().__init__()
        self.channels: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket.__name__ == "convolution_backward":
            weight, stride = args[2], args[4]
            if weight.shape[-2:] == (1, 1) and max(stride) > 1:
                self.channels.append(weight.shape[1])
        return func(*args, **(kwargs or {}))


def values_and_gradients(reduce: FactorizedReduce, x: torch.Tensor, original: bool) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    if original:
        one, other = (conv.weight for conv in (reduce.conv_1, reduce.conv_2))
        out = torch.cat([F.conv2d(x, one, stride=2), F.conv2d(x[:, :, 1:, 1:], other, stride=2)], 1)
    else:
        out = reduce.pre_norm(x)
    gradients = torch.autograd.grad(out.sin().sum(), (x, reduce.conv_1.weight, reduce.conv_2.weight))
    return [out, *gradients]


@pytest.mark.parametrize("channels", [4, 6, 8, 16])
def test_it_equals_two_strided_convolutions_with_gradients(channels):
    torch.manual_seed(0)
    reduce = FactorizedReduce(channels, 4).double()
    x = torch.randn(3, channels, 6, 8, dtype=torch.float64)
    expected = values_and_gradients(reduce, x, original=True)
    ours = values_and_gradients(reduce, x.contiguous(memory_format=torch.channels_last), original=False)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_with_few_channels_no_strided_convolution_is_differentiated_on_a_cpu():
    for channels in (2, 4, 6, 8):  # below 8, that gradient writes beyond its memory (oneDNN as in torch 2.15)
        x = torch.randn(2, channels, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
        with StridedPointwise() as seen:
            FactorizedReduce(channels, 4)(x).sum().backward()
        assert seen.channels == [8, 8] * (channels == 8)
