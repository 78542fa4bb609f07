"""Perturb the operations' weights m in the weight step, which smooths the loss in alpha (SmoothDARTS)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import CellMixing, Mixing
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import LabelledImages

FIRST_EPSILON = 0.03
"""Size of the perturbation in the first epoch (SmoothDARTS, sota/cnn/train_search.py)."""
NUM_ASCENTS = 7
"""Steps of the adversary (SmoothDARTS, section 4)."""


class PerturbedMixing(NamedTuple):
    """The mixing of the weight step, and the losses (0-d) before and after an adversary changed it."""

    mixing: Mixing
    before: Tensor | None = None
    after: Tensor | None = None


def perturbation_size(epsilon: float, progress: float) -> float:
    """Return the size in an epoch: from FIRST_EPSILON on towards `epsilon`, as progress, epoch / epochs, goes to 1."""
    return FIRST_EPSILON + (epsilon - FIRST_EPSILON) * progress


def to_simplex(m: Tensor) -> Tensor:
    """Return m (E, O) clamped to [0, 1], each row divided by its sum; of a row without a positive entry, its largest
    becomes 1."""
    clamped = m.clamp(0, 1)
    largest = torch.zeros_like(m).scatter(-1, m.argmax(-1, keepdim=True), 1.0)
    clamped = torch.where((clamped == 0).all(-1, keepdim=True), largest, clamped)
    return clamped / clamped.sum(-1, keepdim=True)


def random(
    supernet: RelaxedNetwork, mixing: Mixing, train: LabelledImages, conditions: Conditions, world: World
) -> PerturbedMixing:
    """Add uniform noise of at most epsilon to m, and project it to the simplex (SDARTS-RS, equation 5)."""
    return PerturbedMixing(_with(mixing, _near(mixing, conditions)))


def adversarial(
    supernet: RelaxedNetwork, mixing: Mixing, train: LabelledImages, conditions: Conditions, world: World
) -> PerturbedMixing:
    """Move m to where the training loss is larger, by at most epsilon (SDARTS-ADV, equation 6).

    Projected gradient ascent by signs, NUM_ASCENTS steps from a random start, with BatchNorm's running statistics and
    no edge dropped. Where the loss at its end is smaller than that at m, m stays.
    """
    images, labels, *keys = train
    whole = replace(mixing, drop_path=None)
    held = {name: tensor.detach() for name, tensor in supernet.named_parameters()}
    epsilon, start = conditions.epsilon, _operations(mixing)

    def loss_at(moved: Sequence[Tensor]) -> Tensor:
        return F.cross_entropy(
            torch.func.functional_call(supernet, held, (images, _with(whole, moved), *keys)), labels
        )  # fmt: skip

    with _evaluating(supernet):
        with torch.no_grad():
            (before,) = world.mean([loss_at(start)])
        moved = _near(mixing, conditions)
        for _ in range(NUM_ASCENTS):
            leaves = [at.detach().requires_grad_() for at in moved]
            gradients = world.mean(torch.autograd.grad(loss_at(leaves), leaves))  # over ranks, before their signs
            ascended = [at + (2 / NUM_ASCENTS) * epsilon * g.sign() for at, g in zip(moved, gradients, strict=True)]
            moved = [
                to_simplex(m + torch.clamp(at - m, -epsilon, epsilon)) for m, at in zip(start, ascended, strict=True)
            ]
        with torch.no_grad():
            (after,) = world.mean([loss_at(moved)])
    kept = [torch.where(after < before, m, at) for m, at in zip(start, moved, strict=True)]
    return PerturbedMixing(_with(mixing, kept), before, after)


# name of --perturb -> perturbed mixing
PERTURBATIONS: dict[str, Callable[..., PerturbedMixing]] = {"random": random, "adversarial": adversarial}


def _near(mixing: Mixing, conditions: Conditions) -> list[Tensor]:
    draws = [conditions.draw(conditions.weight_key, kind) for kind in range(2)]
    return [
        to_simplex(m + conditions.epsilon * draw.uniform(m.shape).to(m.dtype))
        for m, draw in zip(_operations(mixing), draws, strict=True)
    ]


def _operations(mixing: Mixing) -> list[Tensor]:
    return [mixing.normal.operations, mixing.reduce.operations]


def _with(mixing: Mixing, operations: Sequence[Tensor]) -> Mixing:
    normal, reduce = (_replaced(*pair) for pair in zip((mixing.normal, mixing.reduce), operations, strict=True))
    return replace(mixing, normal=normal, reduce=reduce)


def _replaced(cell: CellMixing, operations: Tensor) -> CellMixing:
    if cell.columns is not None:  # an edge that is decided stays as it is
        undecided = torch.zeros_like(operations, dtype=torch.bool)
        for edge, columns in enumerate(cell.columns):
            undecided[edge].fill_(len(columns) > 1)
        operations = torch.where(undecided, operations, cell.operations)
    return replace(cell, operations=operations)


@contextmanager
def _evaluating(supernet: RelaxedNetwork) -> Iterator[None]:
    training = supernet.training
    supernet.eval()
    try:
        yield
    finally:
        supernet.train(training)
