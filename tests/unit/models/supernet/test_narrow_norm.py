"""Partial channels computed quickly: BatchNorm in rows, pools normalised once per state, skips by pixels."""

import copy

import pytest
import torch
from torch import nn

from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State, shuffle_channels
from darts_hpc.models.supernet.narrow_norm import FEW_CHANNELS, NarrowBatchNorm2d, narrow_batch_norms, normalise
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import FactorizedReduce
from darts_hpc.space.phases import even_pixels, odd_pixels


def images(*shape: int) -> torch.Tensor:
    made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("shape", [(3, 2, 4, 6), (2, 7, 5, 3), (5, 1, 1, 1), (2, FEW_CHANNELS, 4, 4)])
def test_in_rows_it_is_the_batch_norm_it_replaces(shape):
    x, scale = images(*shape), torch.randn(shape[1], dtype=torch.float64, requires_grad=True)
    theirs = nn.BatchNorm2d(shape[1], affine=False).double()
    narrow_batch_norms(ours := copy.deepcopy(theirs))
    assert isinstance(ours, NarrowBatchNorm2d)
    upstream = torch.randn(*shape, dtype=torch.float64)
    for _ in range(2):
        found, expected = ours(x, scale), theirs(x) * scale[:, None, None]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        for mine, own in zip(*(torch.autograd.grad(y, (x, scale), upstream) for y in (found, expected)), strict=True):
            torch.testing.assert_close(mine, own, rtol=1e-9, atol=1e-9)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)
    torch.testing.assert_close(ours.eval()(x, scale), theirs.eval()(x) * scale[:, None, None])


def test_in_rows_it_differentiates_twice():
    x, scale = images(3, 2, 3, 4), torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, scale: normalise(x, 1e-5, scale).x, (x, scale))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_edges_that_share_a_state_compute_each_candidate_and_move_its_statistics(stride, training):
    torch.manual_seed(0)
    ops = [MixedOp(8, stride, PRIMITIVES, partial_channels=2).double().train(training) for _ in range(2)]
    apart = copy.deepcopy(ops)
    for norm in (norm for op in apart for norm in op.modules() if isinstance(norm, NarrowBatchNorm2d)):
        norm.__class__ = nn.BatchNorm2d  # pyright: ignore[reportAttributeAccessIssue]
    x, weights = images(4, 8, 6, 6), torch.rand(2, 8).double().softmax(-1)
    state, node = State(x, None, 2), NodeSum(2)
    expected = torch.zeros(())
    for op, own, row in zip(ops, apart, weights, strict=True):
        op(state, row, node)
        op.add_beside(state, None, None, node)
        computed = sum(w * candidate(x[:, :4]) for w, candidate in zip(row, own._ops, strict=True))
        rest = x[:, 4:] if stride == 1 else nn.functional.max_pool2d(x[:, 4:], 2)
        expected = expected + shuffle_channels(torch.cat([computed, rest], 1), 2)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(node.total(), expected)
    for op, own in zip(ops, apart, strict=True):
        for name, buffer in own.named_buffers():
            torch.testing.assert_close(op.get_buffer(name), buffer)


@pytest.mark.parametrize("sides", [(6, 6), (5, 8), (7, 7), (1, 2)])
def test_a_skip_of_stride_2_by_pixels_is_the_strided_one(sides):
    torch.manual_seed(0)
    skip, x = FactorizedReduce(4, 6, affine=False).double(), images(2, 4, *sides)
    torch.testing.assert_close(skip.pre_norm_pixels(even_pixels(x), odd_pixels(x)), skip.pre_norm(x))
