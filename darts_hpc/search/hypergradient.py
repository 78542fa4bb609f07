"""The gradient of the validation loss with respect to the alphas (paper, equations 5 to 8).

Weights are only ever replaced functionally: the live weights are not touched, and BatchNorm's running statistics are
frozen, so that computing a gradient does not change the supernet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from darts_hpc.distributed.world import World
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import Mixing

EPSILON = 1e-2
"""Numerator of the finite difference's step, r = EPSILON / |v| (paper, section 2.3)."""

LabelledImages = tuple[Tensor, ...]
"""Images (B, 3, H, W), labels (B,), and the images' keys (B,) where something is drawn by them."""
Weights = Mapping[str, Tensor]
Criterion = Callable[[Tensor, Tensor], Tensor]
"""(logits, labels) -> mean loss, 0-d."""
Mix = Callable[[Mapping[str, Tensor] | None], Mixing]
"""Alphas by name, or None for the live ones -> what the supernet mixes by: the same draw in all passes of a step."""


def first_order_gradient(
    supernet: RelaxedNetwork, valid: LabelledImages, criterion: Criterion, world: World, mix: Mix | None = None
) -> list[Tensor]:
    """Return d/dalpha L_valid(w, alpha): equation 6 with xi = 0."""
    weights = {name: w.detach() for name, w in supernet.named_weights().items()}
    with frozen_running_statistics(supernet):
        loss = _loss(supernet, weights, valid, criterion, mix)
        return world.mean(_alpha_gradients(loss, supernet))


def finite_difference_gradient(
    supernet: RelaxedNetwork,
    train: LabelledImages,
    valid: LabelledImages,
    optimizer: torch.optim.SGD,
    criterion: Criterion,
    world: World,
    mix: Mix | None = None,
) -> list[Tensor]:
    """Return d/dalpha L_valid(w - xi dw, alpha) with the Hessian-vector product by central differences (equation 8)."""
    weights = {name: w.detach() for name, w in supernet.named_weights().items()}
    with frozen_running_statistics(supernet):
        w_gradient = _weight_gradient(supernet, weights, train, criterion, world, mix)
        direct, v = _gradients_at_unrolled(supernet, weights, w_gradient, valid, optimizer, criterion, world, mix)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part) for part in v.values()]))
        # |v| = 0: the product is zero with any finite step.
        r = torch.where(norm > 0, EPSILON / norm, torch.ones_like(norm))
        with full_float32():
            up, down = (
                _alpha_gradients(
                    _loss(supernet, {name: w + step * v[name] for name, w in weights.items()}, train, criterion, mix),
                    supernet,
                )
                for step in (r, -r)
            )
        products = world.mean([(a - b) / (2 * r) for a, b in zip(up, down, strict=True)])
    return _subtract(direct, products, _step_size(optimizer))


def exact_gradient(
    supernet: RelaxedNetwork,
    train: LabelledImages,
    valid: LabelledImages,
    optimizer: torch.optim.SGD,
    criterion: Criterion,
    world: World,
    mix: Mix | None = None,
) -> list[Tensor]:
    """Return d/dalpha L_valid(w - xi dw, alpha) with the true Hessian-vector product, by double backward."""
    live = supernet.named_weights()
    weights = {name: w.detach() for name, w in live.items()}
    with frozen_running_statistics(supernet):
        with supernet.differentiable_twice():
            loss = _loss(supernet, live, train, criterion, mix)
            gradient = torch.autograd.grad(loss, list(live.values()), create_graph=True, materialize_grads=True)
        averaged = world.mean([part.detach() for part in gradient])
        w_gradient = dict(zip(live, averaged, strict=True))
        direct, v = _gradients_at_unrolled(supernet, weights, w_gradient, valid, optimizer, criterion, world, mix)
        with supernet.differentiable_twice():  # recomputed cells run here once more
            used = [(part, v[name]) for name, part in zip(live, gradient, strict=True) if part.requires_grad]
            parts, vectors = zip(*used, strict=True)  # the gradient of an unused weight is a constant 0
            products = world.mean(torch.autograd.grad(parts, supernet.alphas(), vectors, materialize_grads=True))
    return _subtract(direct, products, _step_size(optimizer))


# name of --unrolled_method -> gradient
UNROLLED_GRADIENTS: dict[str, Callable[..., list[Tensor]]] = {
    "finite_difference": finite_difference_gradient,
    "exact": exact_gradient,
}


def unrolled_weights(
    weights: Weights, gradient: Weights, optimizer: torch.optim.SGD, live: Weights
) -> dict[str, Tensor]:
    """Return w' = w - xi (momentum * buffer + gradient + weight_decay * w): one step of `optimizer`, without clipping.

    `live` are the parameters that the optimizer holds, by the names of `weights`. Raises ValueError for an SGD with
    dampening, Nesterov momentum or several parameter groups, whose step this is not.
    """
    (group, *others) = optimizer.param_groups
    if others or group["dampening"] or group["nesterov"] or group["maximize"]:
        raise ValueError("the unrolled step needs plain SGD with momentum: one group, no dampening, no nesterov")
    lr, momentum, weight_decay = group["lr"], group["momentum"], group["weight_decay"]
    stepped = {}
    for name, w in weights.items():
        step = gradient[name] + weight_decay * w
        buffer = optimizer.state[live[name]].get("momentum_buffer") if live[name] in optimizer.state else None
        if momentum and buffer is not None:
            step = step + momentum * buffer
        stepped[name] = w - lr * step
    return stepped


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep TF32 and autocast out: the finite difference's perturbation is smaller than their rounding."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _loss(
    supernet: RelaxedNetwork,
    weights: Weights,
    batch: LabelledImages,
    criterion: Criterion,
    mix: Mix | None,
    held: Weights | None = None,
) -> Tensor:
    images, labels, *keys = batch
    inputs = (images,) if mix is None else (images, mix(held), *keys)
    return criterion(torch.func.functional_call(supernet, {**weights, **(held or {})}, inputs), labels)


def _alpha_gradients(loss: Tensor, supernet: RelaxedNetwork) -> Sequence[Tensor]:
    """Return the alphas' gradients: 0 of those that the loss does not depend on, as where all drawn are 'none'."""
    alphas = supernet.alphas()
    if not loss.requires_grad:
        return [torch.zeros_like(alpha) for alpha in alphas]
    return torch.autograd.grad(loss, alphas, materialize_grads=True)


def _weight_gradient(
    supernet: RelaxedNetwork,
    weights: Weights,
    train: LabelledImages,
    criterion: Criterion,
    world: World,
    mix: Mix | None,
) -> dict[str, Tensor]:
    leaves = {name: w.requires_grad_() for name, w in weights.items()}
    alphas = {name: alpha.detach() for name, alpha in supernet.named_alphas().items()}
    loss = _loss(supernet, leaves, train, criterion, mix, alphas)
    gradient = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    for w in weights.values():
        w.requires_grad_(False)
    return dict(zip(weights, world.mean(gradient), strict=True))


def _gradients_at_unrolled(
    supernet: RelaxedNetwork,
    weights: Weights,
    w_gradient: Weights,
    valid: LabelledImages,
    optimizer: torch.optim.SGD,
    criterion: Criterion,
    world: World,
    mix: Mix | None,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the validation loss's gradients at w': with respect to the alphas, and v, with respect to w'."""
    stepped = unrolled_weights(weights, w_gradient, optimizer, supernet.named_weights())
    stepped = {name: w.requires_grad_() for name, w in stepped.items()}
    loss = _loss(supernet, stepped, valid, criterion, mix)
    gradients = torch.autograd.grad(loss, [*supernet.alphas(), *stepped.values()], materialize_grads=True)
    gradients = world.mean(gradients)
    num_alphas = len(supernet.alphas())
    return gradients[:num_alphas], dict(zip(stepped, gradients[num_alphas:], strict=True))


def _step_size(optimizer: torch.optim.SGD) -> float:
    # From the optimizer: a scheduler's get_lr() returns another number between its steps.
    return optimizer.param_groups[0]["lr"]


def _subtract(direct: list[Tensor], products: list[Tensor], xi: float) -> list[Tensor]:
    return [d - xi * p for d, p in zip(direct, products, strict=True)]
