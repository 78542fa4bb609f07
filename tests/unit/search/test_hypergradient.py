"""Alpha gradients against an analytic bilevel problem, and against differentiation through the unrolled step."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.architect import Architect
from darts_hpc.search.hypergradient import (
    UNROLLED_GRADIENTS,
    exact_gradient,
    finite_difference_gradient,
    first_order_gradient,
    full_float32,
)

WORLD = World(torch.device("cpu"))
METHODS = sorted(UNROLLED_GRADIENTS)


class Product(nn.Module):
    """The bilevel problem y = alpha * w * x under half the mean squared error: every derivative is written by hand."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.alpha = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * self.w * x

    def named_alphas(self):
        return {"alpha": self.alpha}

    def alphas(self):
        return [self.alpha]

    def named_weights(self):
        return {"w": self.w}

    def differentiable_twice(self):
        return nullcontext()


def half_squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean() / 2


def analytic_hypergradient(w, alpha, train, valid, lr, momentum_term, weight_decay):
    (x, y), (xv, yv) = train, valid
    w_gradient = ((alpha * w * x - y) * alpha * x).mean()
    stepped = w - lr * (momentum_term + w_gradient + weight_decay * w)
    residual = alpha * stepped * xv - yv
    direct, v = (residual * stepped * xv).mean(), (residual * alpha * xv).mean()
    mixed = (2 * alpha * w * x * x - y * x).mean()  # d2 L_train / d alpha d w
    return direct - lr * mixed * v


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_momentum", [False, True])
def test_unrolled_gradient_equals_the_analytic_bilevel_problem(method, with_momentum):
    problem = Product()
    draw = torch.Generator().manual_seed(0)
    train, valid = torch.randn(2, 2, 16, dtype=torch.float64, generator=draw)
    optimizer = torch.optim.SGD([problem.w], lr=0.3, momentum=0.9, weight_decay=0.01)
    momentum_term = 0.0
    if with_momentum:
        half_squared_error(problem(train[0]), train[1]).backward()
        optimizer.step()
        momentum_term = 0.9 * optimizer.state[problem.w]["momentum_buffer"].item()
    expected = analytic_hypergradient(problem.w.item(), 1.3, train, valid, 0.3, momentum_term, 0.01)
    gradient = UNROLLED_GRADIENTS[method](problem, tuple(train), tuple(valid), optimizer, half_squared_error, WORLD)
    # The training loss is quadratic in w, so that central differences have no truncation error here either.
    torch.testing.assert_close(gradient[0], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_vector_gives_a_finite_gradient(method):
    problem = Product()
    x = torch.ones(4, dtype=torch.float64)
    optimizer = torch.optim.SGD([problem.w], lr=0.0)
    perfect = (x, (problem.alpha * problem.w * x).detach())
    gradient = UNROLLED_GRADIENTS[method](problem, perfect, perfect, optimizer, half_squared_error, WORLD)
    assert gradient[0].item() == 0


@pytest.fixture
def search():
    """A tiny supernet in float64 after one weight step, so that momentum is there."""
    torch.manual_seed(0)
    supernet = SuperNet(4, 3, 5).double()
    with torch.no_grad():
        for alpha in supernet.alphas():
            alpha.normal_()
    optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4)
    train, valid = [(torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3])) for _ in range(2)]
    F.cross_entropy(supernet(train[0]), train[1]).backward()
    optimizer.step()
    supernet.zero_grad()
    return supernet, optimizer, train, valid


def through_the_unrolled_step(supernet, optimizer, train, valid) -> list[Tensor]:
    """Differentiate L_valid(w'(alpha), alpha) by autograd through the step itself."""
    live = supernet.named_weights()
    loss = F.cross_entropy(supernet(train[0]), train[1])
    gradient = torch.autograd.grad(loss, list(live.values()), create_graph=True)
    stepped = {
        name: w - 0.1 * (0.9 * optimizer.state[w]["momentum_buffer"] + g + 3e-4 * w)
        for (name, w), g in zip(live.items(), gradient, strict=True)
    }
    logits = torch.func.functional_call(supernet, stepped, valid[0])
    return list(torch.autograd.grad(F.cross_entropy(logits, valid[1]), supernet.alphas()))


def test_exact_gradient_equals_autograd_through_the_unrolled_step(search):
    supernet, optimizer, train, valid = search
    ours = exact_gradient(supernet, train, valid, optimizer, F.cross_entropy, WORLD)
    for gradient, reference in zip(ours, through_the_unrolled_step(*search), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-12)


def test_finite_differences_approach_the_exact_gradient_as_epsilon_shrinks(search, monkeypatch):
    supernet, optimizer, train, valid = search
    exact = torch.cat(exact_gradient(supernet, train, valid, optimizer, F.cross_entropy, WORLD))
    monkeypatch.setattr("darts_hpc.search.hypergradient.EPSILON", 1e-6)
    tiny = torch.cat(finite_difference_gradient(supernet, train, valid, optimizer, F.cross_entropy, WORLD))
    first = torch.cat(first_order_gradient(supernet, valid, F.cross_entropy, WORLD))
    assert (tiny - exact).norm() < 1e-5 * (first - exact).norm()


@pytest.mark.parametrize("method", [None, *METHODS])
def test_an_alpha_gradient_leaves_weights_and_running_statistics_bitwise_alone(search, method):
    supernet, optimizer, train, valid = search
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    architect = Architect(supernet, learning_rate=1e-3, weight_decay=0.0, unrolled_method=method, world=WORLD)
    architect.gradient(train, valid, optimizer)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in supernet.parameters())
    assert all(m.track_running_stats for m in supernet.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("option", [{"nesterov": True}, {"dampening": 0.1}])
def test_an_optimizer_whose_step_is_not_the_unrolled_one_is_refused(search, option):
    supernet, _, train, valid = search
    optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, **option)
    with pytest.raises(ValueError, match="no dampening, no nesterov"):
        exact_gradient(supernet, train, valid, optimizer, F.cross_entropy, WORLD)


def test_finite_differences_run_without_tf32_and_autocast():
    torch.backends.cudnn.allow_tf32 = True
    with torch.autocast("cpu", dtype=torch.bfloat16), full_float32():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert torch.backends.cudnn.allow_tf32


def test_alphas_are_stepped_by_adam_with_coupled_weight_decay(search):
    supernet, optimizer, train, valid = search
    architect = Architect(supernet, learning_rate=3e-3, weight_decay=0.5, unrolled_method=None, world=WORLD)
    alpha, gradient = supernet.alphas_normal.detach().clone(), architect.gradient(train, valid, optimizer)[0]
    architect.step(train, valid, optimizer)
    decayed = gradient + 0.5 * alpha  # Adam's first step is lr * sign of the decayed gradient
    torch.testing.assert_close(supernet.alphas_normal.detach(), alpha - 3e-3 * decayed.sign(), rtol=0, atol=1e-6)
    assert architect.optimizer.defaults["betas"] == (0.5, 0.999)


def test_a_checkpoint_of_another_device_does_not_change_adams_settings(search):
    supernet, optimizer, train, valid = search
    architect = Architect(supernet, learning_rate=3e-3, weight_decay=0.5, unrolled_method=None, world=WORLD)
    architect.step(train, valid, optimizer)
    saved = architect.state_dict()
    saved["param_groups"][0] |= {"capturable": True, "fused": None, "foreach": True}  # as if saved on a GPU
    architect.load_state_dict(saved)
    (group,) = architect.optimizer.param_groups
    assert (group["capturable"], group["fused"], group["foreach"]) == (False, True, None)
    assert [state["step"].item() for state in architect.optimizer.state.values()] == [1, 1]
