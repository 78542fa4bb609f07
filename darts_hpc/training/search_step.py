"""One whole step of the search: the alphas', then the weights' (paper, algorithm 1)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.search.architect import Architect
from darts_hpc.search.hypergradient import LabelledImages


class StepNumbers(NamedTuple):
    """What a step leaves behind, on the device: loss (0-d), logits (B, classes), gradient norms (0-d)."""

    loss: Tensor
    logits: Tensor
    weight_norm: Tensor
    alpha_norm: Tensor


SearchStep = Callable[[LabelledImages, LabelledImages], StepNumbers]
"""A whole step on (train, valid)."""


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
) -> StepNumbers:
    """Step the alphas, then the weights at the new alphas. Batches are on the device; nothing waits for it.

    In precision bf16, autocast computes in bfloat16 what gains from it.
    """
    with _autocast(world.device.type) if precision == "bf16" else nullcontext():
        alpha_norm = architect.step(train, valid, optimizer)
        loss, logits, weight_norm = weight_step(supernet, optimizer, train, grad_clip=grad_clip, world=world)
    return StepNumbers(loss, logits, weight_norm, alpha_norm)


def _autocast(device: str) -> AbstractContextManager[object]:
    # No cache: it would hold every weight's copy to the step's end, and a graph could not replay it.
    return torch.autocast(device, torch.bfloat16, cache_enabled=False)


def weight_step(
    supernet: RelaxedNetwork, optimizer: torch.optim.SGD, train: LabelledImages, *, grad_clip: float, world: World
) -> tuple[Tensor, Tensor, Tensor]:
    """Update the weights on one batch with the alphas held; return loss, logits (B, classes) and gradient norm."""
    images, labels = train
    weights = supernet.weights()
    alphas = {name: alpha.detach() for name, alpha in supernet.named_alphas().items()}
    logits = torch.func.functional_call(supernet, alphas, images)
    loss = F.cross_entropy(logits, labels)
    # autograd.grad passes by DDP's hooks: the average over ranks is taken here.
    gradients = world.mean(torch.autograd.grad(loss, weights))
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    norm = nn.utils.clip_grad_norm_(weights, grad_clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), logits.detach(), norm
