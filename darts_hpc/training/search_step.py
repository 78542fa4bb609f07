"""One whole step of the search: the alphas', then the weights' (paper, algorithm 1)."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.config.train_search import SearchRuntimeConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.fused import FusedSuperNet
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.search.architect import Architect
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.search.perturbations import PERTURBATIONS, PerturbedMixing
from darts_hpc.training.compile import compile_modules
from darts_hpc.training.cuda_graph import GraphedStep, hold_learning_rate_on
from darts_hpc.training.data_parallel import average_gradients
from darts_hpc.training.precision import choose_precision, memory_format
from darts_hpc.training.rollback import Rollback

log = logging.getLogger(__name__)


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


def build_search_step(
    supernet: RelaxedNetwork,
    architect: Architect,
    optimizer: torch.optim.SGD,
    *,
    grad_clip: float,
    world: World,
    cfg: SearchRuntimeConfig,
    perturb: str = "none",
) -> SearchStep:
    """Return the search's step in the number formats of `cfg`, as a CUDA graph where `cfg` says so and it is possible.

    `perturb` is --perturb; where alphas are held, or edges decided, steps run eagerly. Compiles the cells where `cfg`
    says so. A step that runs out of memory is rolled back. Sets torch's TF32 switches, and moves the
    optimizer's learning rate to the device for a graph.
    """
    precision, layout = choose_precision(cfg.precision, world.device), memory_format(cfg.channels_last)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.tf32
    if cfg.compile:
        compile_modules(supernet.cells, world.device)
    if isinstance(supernet, FusedSuperNet):
        log.info("the first steps compile Triton kernels: about a minute, unless Triton's cache holds them")

    def step(
        train: LabelledImages, valid: LabelledImages, conditions: Conditions | None = None, with_alphas: bool = True
    ) -> StepNumbers:
        return search_step(
            supernet, architect, optimizer, train, valid, grad_clip=grad_clip, world=world, precision=precision,
            conditions=conditions, perturb=perturb, with_alphas=with_alphas,
        )  # fmt: skip

    example: Conditions | None = None  # what the numbers of a step's conditions are of

    def step_on_tensors(train: LabelledImages, valid: LabelledImages, numbers: tuple[Tensor, ...]) -> StepNumbers:
        return step(train, valid, None if example is None else example.with_tensors(list(numbers)))

    def new_graph() -> GraphedStep[StepNumbers]:
        return GraphedStep(step_on_tensors, world, "search step")

    graph: GraphedStep[StepNumbers] | None = None
    if cfg.cuda_graph and world.device.type == "cuda":
        hold_learning_rate_on(world.device, optimizer)
        graph = new_graph()

    def laid_out(batch: LabelledImages) -> LabelledImages:
        return batch[0].contiguous(memory_format=layout), *batch[1:]

    rollback, decay = Rollback(supernet, optimizer, architect), optimizer.param_groups[0]["weight_decay"]

    def run_or_roll_back(
        train: LabelledImages, valid: LabelledImages, conditions: Conditions | None = None, with_alphas: bool = True
    ) -> StepNumbers:
        nonlocal graph, decay, example
        if graph is not None and optimizer.param_groups[0]["weight_decay"] != decay:
            graph.release()
            graph, decay = new_graph(), optimizer.param_groups[0]["weight_decay"]  # a constant in the graph
        with rollback:
            train, valid = laid_out(train), laid_out(valid)
            # a graph replays the architecture as it was captured: without decisions, and with steps of the alphas
            if graph is not None and with_alphas and not architect.architecture.has_decisions:
                example = conditions
                return graph(train, valid, () if conditions is None else tuple(conditions.tensors()))
            return step(train, valid, conditions, with_alphas)

    return run_or_roll_back
