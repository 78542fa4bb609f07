"""Relaxations against their definitions: values, gradients by finite differences, and frequencies of what is drawn."""

import math
from contextlib import nullcontext

import pytest
import torch
from step_conditions import conditions
from torch import Tensor, nn

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.architect import Architect
from darts_hpc.search.architecture import KINDS, Architecture
from darts_hpc.search.conditions import Draw
from darts_hpc.search.relaxations import RELAXATIONS, dirichlet, edge_softmax, gumbel

WORLD = World(torch.device("cpu"))


class Mixture(nn.Module):
    """The bilevel problem y = (sum of m * w over both kinds of cells) * x, under half the mean squared error."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(2, 2, 3, dtype=torch.float64, generator=generator))
        for kind in KINDS:
            alphas = torch.randn(2, 3, dtype=torch.float64, generator=generator)
            self.register_parameter(f"alphas_{kind}", nn.Parameter(alphas))

    def forward(self, x: Tensor, mixing) -> Tensor:
        return sum((getattr(mixing, kind).operations * w).sum() for kind, w in zip(KINDS, self.w, strict=True)) * x

    def named_alphas(self):
        return {f"alphas_{kind}": getattr(self, f"alphas_{kind}") for kind in KINDS}

    def alphas(self):
        return list(self.named_alphas().values())

    def named_weights(self):
        return {"w": self.w}

    def differentiable_twice(self):
        return nullcontext()


def half_squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean() / 2


@pytest.mark.parametrize("method", [None, "finite_difference", "exact"])
@pytest.mark.parametrize("relaxation", ["softmax", "sigmoid"])
def test_the_alphas_gradient_is_that_of_the_bilevel_problem(relaxation, method):
    problem = Mixture()
    train, valid = torch.randn(2, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD([problem.w], lr=0.3, weight_decay=0.01)
    architect = Architect(
        problem, learning_rate=0.1, weight_decay=0.0, unrolled_method=method, world=WORLD,  # pyright: ignore
        criterion=half_squared_error, architecture=Architecture(problem, relaxation),  # pyright: ignore
    )  # fmt: skip
    found = architect.gradient(tuple(train), tuple(valid), optimizer)

    def loss(alphas: Tensor) -> float:  # every derivative by hand: the weights' gradient is (output - y) x m
        m = torch.stack([RELAXATIONS[relaxation](part, None, 1.0) for part in alphas])
        w = problem.w.detach()
        if method is not None:
            residual = (m * w).sum() * train[0] - train[1]
            w = w - 0.3 * ((residual * train[0]).mean() * m + 0.01 * w)
        return half_squared_error((m * w).sum() * valid[0], valid[1]).item()

    alphas, h = torch.stack([part.detach() for part in problem.alphas()]), 1e-6
    expected = torch.zeros_like(alphas)
    for index in torch.cartesian_prod(*map(torch.arange, alphas.shape)).tolist():
        step = torch.zeros_like(alphas)
        step[tuple(index)] = h
        expected[tuple(index)] = (loss(alphas + step) - loss(alphas - step)) / (2 * h)
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-6, atol=1e-8)


def test_gumbel_draws_by_softmax_and_its_gradient_is_that_of_the_drawn_probability():
    alphas = torch.tensor([[0.3, -1.0, 1.2, 0.0]], dtype=torch.float64).expand(4000, 4).clone().requires_grad_()
    m = gumbel(alphas, Draw(torch.tensor(5), 0), 0.5)
    assert torch.equal(m.detach().sort(-1).values[:, :3], torch.zeros(4000, 3)) and (m.sum(-1) - 1).abs().max() < 1e-15
    torch.testing.assert_close(m.detach().mean(0), alphas[0].detach().softmax(-1), rtol=0, atol=0.03)
    weights = torch.randn(4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((m * weights).sum(), alphas)
    noise = Draw(torch.tensor(5), 0).gumbel(alphas.shape)
    p = ((alphas.log_softmax(-1) + noise) / 0.5).softmax(-1)
    chosen = p.gather(-1, m.argmax(-1, keepdim=True))[:, 0]
    (expected,) = torch.autograd.grad((chosen * weights[m.argmax(-1)]).sum(), alphas)
    torch.testing.assert_close(gradient, expected)


def test_dirichlet_samples_have_the_mean_and_its_derivative():
    alphas = torch.tensor([0.4, -0.5, 1.5], dtype=torch.float64)
    rows = alphas.expand(40000, 3).clone().requires_grad_()
    m = dirichlet(rows, Draw(torch.tensor(9), 1))
    assert (m.sum(-1) - 1).abs().max() < 1e-12 and m.min() >= 0
    mean = dirichlet(alphas.requires_grad_())
    torch.testing.assert_close(m.detach().mean(0), mean.detach(), rtol=0, atol=5e-3)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((m * weights).sum() / len(rows), rows)
    (expected,) = torch.autograd.grad((mean * weights).sum(), alphas)
    torch.testing.assert_close(gradient.sum(0), expected, rtol=0, atol=5e-3)


def test_edge_weights_sum_to_one_over_each_nodes_inputs():
    betas = torch.randn(14, dtype=torch.float64)
    b = edge_softmax(betas)
    for first, inputs in ((0, 2), (2, 3), (5, 4), (9, 5)):
        torch.testing.assert_close(b[first : first + inputs], betas[first : first + inputs].softmax(0))
    assert [len(edge_softmax(torch.zeros(n))) for n in (2, 5, 9)] == [2, 5, 9]


@pytest.mark.parametrize("relaxation", ["gumbel", "dirichlet"])
def test_draws_are_a_function_of_the_step_alone_whatever_was_drawn_before(relaxation):
    torch.manual_seed(0)
    architecture = Architecture(SuperNet(2, 3, 5, num_nodes=2), relaxation)
    first = architecture.mix_for_weights(conditions(3))
    torch.rand(5)
    architecture.mix_for_alphas(conditions(4))
    again, other = architecture.mix_for_weights(conditions(3)), architecture.mix_for_weights(conditions(4))
    alphas = architecture.mix_for_alphas(conditions(3))
    assert torch.equal(first.normal.operations, again.normal.operations)
    assert not torch.equal(first.normal.operations, other.normal.operations)
    assert not torch.equal(first.normal.operations, first.reduce.operations)
    assert not torch.equal(first.normal.operations, alphas.normal.operations)


class Rows(nn.Module):
    """One edge's alphas, in thousands of rows: what is drawn on each is a draw of its own."""

    def __init__(self, row: Tensor):
        super().__init__()
        self.rows = {f"alphas_{kind}": nn.Parameter(row.expand(20000, -1).clone()) for kind in KINDS}

    def named_alphas(self):
        return self.rows


@pytest.mark.parametrize("relaxation", sorted(RELAXATIONS))
def test_the_recorded_weights_are_those_that_steps_mix_by_on_average(relaxation):
    architecture = Architecture(Rows(torch.tensor([0.4, -0.5, 1.5])), relaxation)  # pyright: ignore[reportArgumentType]
    mixed = architecture.mix_for_weights(conditions(3)).normal.operations.double().mean(0)
    recorded = architecture.operation_weights(conditions(3))
    torch.testing.assert_close(recorded["normal"][7], mixed, rtol=0, atol=0.01)
    p = recorded["normal"][7].tolist()
    others = [1 - x for x in p] if relaxation == "sigmoid" else []
    entropy = -sum(x * math.log(x) for x in (*p, *others))
    assert architecture.entropies(recorded)["normal"] == pytest.approx(entropy)


def test_what_is_recorded_of_decided_edges_is_their_one_operation_or_none():
    architecture = Architecture(SuperNet(2, 3, 5, num_nodes=2, edge_norm=True), "softmax")
    architecture.projections["normal"].chosen[2], architecture.projections["normal"].dropped[3] = 4, True
    weights, edges = architecture.operation_weights()["normal"], architecture.edge_weights()["normal"]
    assert weights[2].tolist() == [0, 0, 0, 0, 1, 0, 0, 0] and weights[3].count_nonzero() == 0
    assert (weights[:2].sum(-1) - 1).abs().max() < 1e-12
    assert [weight > 0 for weight in edges.tolist()] == [True, True, True, False, True]


def test_the_entropy_of_weights_of_any_size_is_finite():
    architecture = Architecture(Rows(torch.zeros(3)), lambda alphas, draw, tau: alphas - 1)  # pyright: ignore
    weights = {"normal": torch.tensor([[3.0, 1.0, -2.0], [0.0, 0.0, 0.0]]).double()}
    assert architecture.entropies(weights)["normal"] == pytest.approx((0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / 2)
