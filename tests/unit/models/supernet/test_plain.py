"""The relaxed network."""

import pytest
import torch
import torch.nn.functional as F

from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import OPERATIONS, FactorizedReduce


def test_a_mixed_op_is_the_weighted_sum_of_every_candidate():
    torch.manual_seed(0)
    op = MixedOp(4, 1, PRIMITIVES).double()
    x, weights = torch.randn(2, 4, 8, 8).double(), torch.randn(8).double().softmax(0)
    terms = [w * candidate(x) for w, candidate in zip(weights, op._ops, strict=True)]
    op(State(x), weights, node := NodeSum())
    torch.testing.assert_close(node.total(), torch.stack(terms).sum(0))


@pytest.mark.parametrize("side", [8, 9, 10, 13, 15, 32])
def test_any_image_side_passes_through_both_kinds_of_cells(side):
    supernet = SuperNet(4, 3, 7)
    assert supernet(torch.randn(2, 3, side, side)).shape == (2, 7)


def test_imagenets_stem_is_pc_darts_own():
    """model_search_imagenet.py of its repository: three convolutions of stride 2, as wide as CIFAR's stem."""
    supernet = SuperNet(4, 3, 7, stem="imagenet").double()
    w, images = dict(supernet.named_parameters()), torch.randn(2, 3, 64, 64).double()
    shapes = [w[f"{name}.weight"].shape for name in ("stem0.0", "stem0.3", "stem1.1")]
    assert shapes == [(6, 3, 3, 3), (12, 6, 3, 3), (12, 12, 3, 3)]

    def norm(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((0, 2, 3), True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    half = norm(F.conv2d(images, w["stem0.0.weight"], stride=2, padding=1)).relu()
    quarter = norm(F.conv2d(half, w["stem0.3.weight"], stride=2, padding=1))
    eighth = norm(F.conv2d(quarter.relu(), w["stem1.1.weight"], stride=2, padding=1))
    seen = []
    supernet.cells[0].register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[:2]))
    assert supernet(images).shape == (2, 7)
    for ours, theirs in zip(seen, (quarter, eighth), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert isinstance(supernet.cells[0].preprocess0, FactorizedReduce) and seen[1].shape[-1] == 8


def test_channels_last_changes_no_gradient():
    """torch reads a scale that is not contiguous wrongly in channels_last."""
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    gradients = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        supernet = SuperNet(4, 3, 7).double().to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
        loss = supernet(images.contiguous(memory_format=memory_format)).square().sum()
        gradients.append(torch.autograd.grad(loss, list(supernet.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_alphas_are_parameters_of_their_own_and_travel_in_the_state_dict():
    supernet = SuperNet(4, 3, 10)
    assert {"alphas_normal", "alphas_reduce"} <= set(supernet.state_dict())
    assert [alpha.shape for alpha in supernet.alphas()] == [(14, 8)] * 2
    assert not {id(alpha) for alpha in supernet.alphas()} & {id(weight) for weight in supernet.weights()}
    assert len(supernet.weights()) + 2 == len(list(supernet.parameters()))


def test_alphas_start_nearly_uniform_as_in_the_original():
    torch.manual_seed(0)
    alphas = torch.stack([torch.cat(list(SuperNet(2, 3, 2).alphas())) for _ in range(20)])
    assert alphas.std().item() == pytest.approx(1e-3, rel=0.05)


def test_candidates_have_no_learnt_scale_and_pools_are_normalised():
    op = MixedOp(4, 2, PRIMITIVES)
    norms = [m for m in op.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(not norm.affine for norm in norms)
    assert len(norms) == 9  # two pools, the factorised skip, two in each separable, one in each dilated


def test_other_primitives_and_node_counts_build():
    supernet = SuperNet(4, 3, 10, num_nodes=2, primitives=("skip_connect", "sep_conv_3x3"))
    assert supernet(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    assert supernet.alphas_normal.shape == (5, 2)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("side", [7, 8])
def test_every_operation_keeps_the_side_or_halves_it_rounding_up(name, side):
    x = torch.randn(2, 4, side, side)
    assert OPERATIONS[name](4, 1, True)(x).shape == x.shape
    half = (side + 1) // 2
    assert OPERATIONS[name](4, 2, True)(x).shape == (2, 4, half, half)


def test_no_connection_is_zero_even_for_infinite_inputs():
    x = torch.full((1, 2, 4, 4), torch.inf)
    assert OPERATIONS["none"](2, 2, True)(x).abs().sum() == 0
