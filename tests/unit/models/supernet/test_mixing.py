"""Partial channels, edge weights, auxiliary skips and drop path against cells that are put together edge by edge."""

import pytest
import torch
import torch.nn.functional as F

from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State, shuffle_channels
from darts_hpc.models.supernet.mixing import CellMixing, Mixing
from darts_hpc.models.supernet.plain import Cell, SuperNet
from darts_hpc.space.spaces import SPACES, uniform_space

PRIMITIVES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
EDGES = (PRIMITIVES,) * 14


def edge(op: MixedOp, x: torch.Tensor, weights: torch.Tensor, share: float) -> torch.Tensor:
    """One edge as family.md writes it: shuffle(concat(mixed part, the rest)) + share * skip, each edge on its own."""
    taken = x.shape[1] // op.partial_channels
    terms = [w * candidate(x[:, :taken]) for w, candidate in zip(weights, op._ops, strict=True)]
    mixed = torch.stack(terms).sum(0)
    joined = mixed
    if taken < x.shape[1]:
        joined = torch.cat([mixed, x[:, taken:] if op.stride == 1 else F.max_pool2d(x[:, taken:], 2, 2)], 1)
    batch, channels, height, width = joined.shape
    groups = joined.view(batch, op.partial_channels, channels // op.partial_channels, height, width)
    out = groups.transpose(1, 2).reshape(batch, channels, height, width)
    return out + share * op.auxiliary_op(x) if op.auxiliary_op is not None else out


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize(("partial_channels", "auxiliary"), [(1, True), (2, False), (4, True)])
def test_a_cell_is_the_sum_of_its_edges(partial_channels, auxiliary, reduction):
    torch.manual_seed(0)
    cell = Cell(8, 8, 8, reduction, False, EDGES, partial_channels, auxiliary).double().eval()
    s0, s1 = torch.randn(2, 3, 8, 8, 8, dtype=torch.float64)
    m, b = torch.rand(14, 5, dtype=torch.float64), torch.rand(14, dtype=torch.float64)
    share = torch.tensor(0.7, dtype=torch.float64)
    keep = torch.tensor([0.0, 2.0, 1.0]).double().repeat(14)[:42].view(14, 3, 1, 1, 1)
    for factors in (None, keep):
        found = cell(s0, s1, CellMixing(operations=m, edges=b, auxiliary=share if auxiliary else None), None, factors)
        states, at = [cell.preprocess0(s0), cell.preprocess1(s1)], 0
        for _ in range(4):
            ends = []
            for state in states:
                end = b[at] * edge(cell._ops[at], state, m[at], 0.7)  # pyright: ignore[reportArgumentType]
                ends.append(end if factors is None else end * factors[at])
                at += 1
            states.append(sum(ends))
        torch.testing.assert_close(found, torch.cat(states[2:], 1), rtol=1e-10, atol=1e-12)


def test_channels_are_shuffled_as_pc_darts_does():
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert shuffle_channels(x, 4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_an_operation_that_does_not_run_has_no_gradient_and_a_node_without_any_is_zero():
    torch.manual_seed(0)
    supernet = SuperNet(4, 3, 5, space=uniform_space(("none", "skip_connect", "sep_conv_3x3")))
    m = torch.zeros(14, 3)
    m[:, 1] = 1.0
    only_skips = CellMixing(operations=m, columns=((1,),) * 14)
    nothing = CellMixing(operations=torch.zeros(14, 3), columns=((0,),) * 2 + ((),) * 12)
    images = torch.randn(2, 3, 8, 8)
    logits = supernet(images, Mixing(normal=only_skips, reduce=only_skips))
    gradients = torch.autograd.grad(logits.sum(), supernet.weights(), allow_unused=True)
    unused = [name for name, g in zip(supernet.named_weights(), gradients, strict=True) if g is None]
    assert unused and all("._ops.2." in name for name in unused)
    everything = supernet(images, Mixing(normal=CellMixing(operations=m), reduce=CellMixing(operations=m)))
    torch.testing.assert_close(logits, everything)
    bare = supernet(images, Mixing(normal=nothing, reduce=nothing))
    assert torch.equal(bare, supernet.classifier.bias.expand(2, 5))


def test_noise_in_a_supernet_follows_the_images_keys_also_where_cells_are_computed_again():
    torch.manual_seed(0)
    supernet = SuperNet(4, 3, 5, space=SPACES["s4"]).double()
    images, keys = torch.randn(2, 3, 8, 8).double(), torch.tensor([7, 9])
    mixing = supernet.softmax_mixing()
    logits = supernet(images, mixing, keys)
    assert torch.equal(logits, supernet(images, mixing, keys)) and not torch.equal(logits, supernet(images, mixing))
    (whole,) = torch.autograd.grad(logits.sum(), [supernet.alphas_normal])
    supernet.checkpoint_cells = True
    again = supernet(images, supernet.softmax_mixing(), keys)
    (recomputed,) = torch.autograd.grad(again.sum(), [supernet.alphas_normal])
    torch.testing.assert_close(recomputed, whole, rtol=1e-12, atol=1e-14)


def test_a_mixed_op_adds_nothing_for_none_nor_for_what_does_not_run():
    op, ones = MixedOp(4, 2, ("none", "max_pool_3x3", "none")), torch.ones(1, 4, 4, 4)
    for columns, is_zero in ((None, False), ((0, 2), True), ((), True)):
        node = NodeSum()
        op(State(ones + torch.arange(4.0)), torch.ones(3), node, columns)
        node.complete(op, State(ones))
        assert node.total().shape == (1, 4, 2, 2) and bool((node.total() == 0).all()) == is_zero
