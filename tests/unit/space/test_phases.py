"""Dilated convolutions in phases."""

import pytest
import torch
from torch import nn

from darts_hpc.space.operations import DilatedConv, FactorizedReduce
from darts_hpc.space.phases import can_split, even_pixels, merge_phases, meta_stands_for, phases_pay, split_phases

SIDES = [(8, 8), (16, 12), (4, 4), (7, 7), (8, 9), (2, 2), (13, 6)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_a_dilated_convolution_in_phases_is_the_dilated_convolution(sides, stride, kernel_size, memory_format):
    torch.manual_seed(0)
    op = DilatedConv(4, kernel_size, stride, True).double()
    x = torch.randn(3, 4, *sides).double().contiguous(memory_format=memory_format).requires_grad_()
    wanted = [x, *op.parameters()]
    expected, ours = op.op(x), op(x)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad((ours * direction).sum(), wanted),
        torch.autograd.grad((expected * direction).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.fixture
def whole_images(monkeypatch):
    """The calls of dilated convolutions, each of which saw a whole image."""
    calls, forward = [], nn.Conv2d.forward

    def counted(self, x):
        if self.dilation == (2, 2):
            calls.append(tuple(x.shape))
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    return calls


def test_a_dilated_convolution_goes_in_phases_wherever_it_can_and_a_backward_comes(whole_images):
    for stride, side, whole in ((1, 8, 0), (2, 7, 0), (1, 7, 1)):
        op = DilatedConv(2, 3, stride, True)
        x = torch.randn(1, 2, side, side)
        whole_images.clear()
        op(x)
        assert len(whole_images) == whole
        with torch.no_grad():
            op(x)
        assert len(whole_images) == whole + 1


def hooked(convolution: nn.Conv2d) -> nn.Module:
    convolution.register_forward_hook(lambda *arguments: 2 * arguments[-1])
    return convolution


def patched(convolution: nn.Conv2d) -> nn.Module:
    forward = convolution.forward
    convolution.forward = lambda input: 2 * forward(input)
    return convolution


class Twice(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(x)


def parametrised(convolution: nn.Conv2d) -> nn.Module:
    class Double(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    return nn.utils.parametrize.register_parametrization(convolution, "weight", Double())


CHANGES = {"a hook": hooked, "a patched forward": patched, "a wrapper": Twice, "a parametrisation": parametrised}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_put_around_a_dilated_convolution_takes_effect(change, stride):
    torch.manual_seed(0)
    op, x = DilatedConv(4, 3, stride, True).eval(), torch.randn(2, 4, 8, 8)
    norm = op.op[-1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_var = torch.full((4,), 1.0)
    before = op(x)
    op.op[1] = CHANGES[change](op.op[1])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(op(x), 2 * before)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_put_around_a_reductions_convolutions_takes_effect(change):
    torch.manual_seed(0)
    op, x = FactorizedReduce(4, 4).eval(), torch.randn(2, 4, 7, 8)
    before = op(x)
    op.conv_1 = CHANGES[change](op.conv_1)  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(op(x), torch.cat([2 * before[:, :2], before[:, 2:]], 1))


def test_running_statistics_in_phases_are_those_of_the_whole_image():
    torch.manual_seed(0)
    op, x = DilatedConv(4, 3, 1, False).double(), torch.randn(2, 4, 8, 8).double()
    norm = op.op[-1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    variances = []
    for forward in (op, op.op):
        norm.reset_running_stats()
        forward(x)
        assert norm.running_var is not None
        variances.append(norm.running_var.clone())
    torch.testing.assert_close(*variances, rtol=1e-12, atol=0)


def test_phases_are_the_parities_of_row_and_column_and_merge_back():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    phases = split_phases(x)
    for index, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(phases[2 * index : 2 * index + 2], x[:, :, row::2, column::2])
    assert torch.equal(merge_phases(phases), x)
    assert torch.equal(even_pixels(x), x[:, :, ::2, ::2])


def test_odd_sides_and_images_too_small_for_the_kernel_stay_whole():
    splits = {
        (side, kernel): can_split(torch.empty(1, 1, side, side), kernel) for side in (4, 7, 8) for kernel in (3, 5)
    }
    assert splits == {(4, 3): True, (4, 5): False, (7, 3): False, (7, 5): False, (8, 3): True, (8, 5): True}


def test_a_step_without_memory_goes_the_way_of_the_device_it_stands_for():
    x = torch.empty(1, 1, 8, 8, device="meta")
    assert not phases_pay(x)  # modules whose calls are counted are called
    with meta_stands_for("cuda"):
        assert not phases_pay(x)
    with meta_stands_for("cpu"):
        assert phases_pay(x)
        with torch.no_grad():
            assert not phases_pay(x)
