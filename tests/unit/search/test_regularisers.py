"""Regularisers of the alphas against torch's distributions and against their formulas written out."""

import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from darts_hpc.search.auxiliary_skip import SHARES
from darts_hpc.search.regularisers import REGULARISERS, regulariser_weight


@pytest.fixture
def alphas():
    return list(torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_())


def test_kl_is_the_divergence_from_the_flat_dirichlet_distribution(alphas):
    expected = sum(
        kl_divergence(Dirichlet(torch.nn.functional.elu(part) + 1), Dirichlet(torch.ones_like(part))).sum()
        for part in alphas
    )
    torch.testing.assert_close(REGULARISERS["kl"](alphas), expected)


def test_beta_pushes_by_the_softmax_over_the_edges(alphas):
    gradients = torch.autograd.grad(REGULARISERS["beta"](alphas), alphas)
    for gradient, part in zip(gradients, alphas, strict=True):
        torch.testing.assert_close(gradient, part.softmax(-1) / 5)


def test_zero_one_pushes_gates_away_from_a_half(alphas):
    gradients = torch.autograd.grad(REGULARISERS["zero_one"](alphas), alphas)
    for gradient, part in zip(gradients, alphas, strict=True):
        gates = part.sigmoid()
        torch.testing.assert_close(gradient, -2 * (gates - 0.5) * gates * (1 - gates) / 40)


def test_schedules_run_over_the_epochs():
    assert [regulariser_weight("beta", 50, epoch / 50) for epoch in (0, 25, 49)] == pytest.approx([0, 25, 49])
    assert regulariser_weight("zero_one", 10, 0) == 10
    assert [SHARES["linear"](epoch / 50) for epoch in (0, 49, 50)] == pytest.approx([1, 0.02, 0])
    assert SHARES["cosine"](0.5) == pytest.approx(0.5) and SHARES["constant"](0.9) == 1
