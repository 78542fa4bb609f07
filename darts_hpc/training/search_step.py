"""One whole step of the search: the alphas', then the weights' (paper, algorithm 1)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.search.architect import Architect
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.search.perturbations import PERTURBATIONS, PerturbedMixing
from darts_hpc.training.data_parallel import average_gradients


class StepNumbers(NamedTuple):
    """What a step leaves behind, on the device: loss (0-d), logits (B, classes), gradient norms (0-d)."""

    loss: Tensor
    logits: Tensor
    weight_norm: Tensor
    alpha_norm: Tensor
    loss_before: Tensor | None = None
    """Loss (0-d) at unperturbed weights of operations, where an adversary perturbs them."""
    loss_after: Tensor | None = None
    """The same at the perturbed ones."""

    def perturbation(self) -> dict[str, Tensor]:
        """Return both losses by their names in records, if there are any."""
        losses = {"perturbation/loss_before": self.loss_before, "perturbation/loss_after": self.loss_after}
        return {name: loss for name, loss in losses.items() if loss is not None}


SearchStep = Callable[..., StepNumbers]
"""A whole step on (train, valid, conditions of the step, whether the alphas move)."""


def search_step(
    supernet: RelaxedNetwork,
    architect: Architect,
    optimizer: torch.optim.SGD,
    train: LabelledImages,
    valid: LabelledImages,
    *,
    grad_clip: float,
    world: World,
    precision: str = "fp32",
    conditions: Conditions | None = None,
    perturb: str = "none",
    with_alphas: bool = True,
) -> StepNumbers:
    """Step the alphas, then the weights at the new alphas. Batches are on the device; nothing waits for it.

    Args:
        precision: fp32, or bf16, where autocast computes in bfloat16 what gains from it.
        conditions: of this step; they may be left out where the search neither draws nor schedules anything.
        perturb: a key of PERTURBATIONS, or none.
        with_alphas: False while the alphas are held.
    """
    with _autocast(world.device.type) if precision == "bf16" else nullcontext():
        alpha_norm = architect.step(train, valid, optimizer, conditions) if with_alphas else None
        mixing = architect.architecture.mix_for_weights(conditions)
        perturbed = PerturbedMixing(mixing)
        if perturb != "none":
            assert conditions is not None
            perturbed = PERTURBATIONS[perturb](supernet, mixing, train, conditions, world)
        keep_unused = architect.architecture.relaxation != "gumbel"
        loss, logits, weight_norm = weight_step(
            supernet, optimizer, train, grad_clip=grad_clip, world=world, mixing=perturbed.mixing,
            keep_unused=keep_unused,
        )  # fmt: skip
    alpha_norm = torch.zeros_like(weight_norm) if alpha_norm is None else alpha_norm
    return StepNumbers(loss, logits, weight_norm, alpha_norm, perturbed.before, perturbed.after)


def _autocast(device: str) -> AbstractContextManager[object]:
    # No cache: it would hold every weight's copy to the step's end, and a graph could not replay it.
    return torch.autocast(device, torch.bfloat16, cache_enabled=False)


def weight_step(
    supernet: RelaxedNetwork,
    optimizer: torch.optim.SGD,
    train: LabelledImages,
    *,
    grad_clip: float,
    world: World,
    mixing: Mixing | None = None,
    keep_unused: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update the weights on one batch with the alphas held; return loss, logits (B, classes) and gradient norm.

    Args:
        mixing: what the supernet mixes by; softmax(alpha) where it is None.
        keep_unused: leave weights of candidates that did not run as they are; else decay and momentum move them.
    """
    images, labels, *keys = train
    weights = supernet.weights()
    alphas = {name: alpha.detach() for name, alpha in supernet.named_alphas().items()}
    logits = torch.func.functional_call(supernet, alphas, (images, mixing, *keys))
    loss = F.cross_entropy(logits, labels)
    found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=not keep_unused)
    for weight, gradient in zip(weights, found, strict=True):
        weight.grad = gradient
    average_gradients(weights, world)
    norm = nn.utils.clip_grad_norm_(weights, grad_clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), logits.detach(), norm
