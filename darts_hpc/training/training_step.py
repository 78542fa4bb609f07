"""The step of a training and the forward pass of its evaluation: eager, or as CUDA graphs."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from darts_hpc.data.loading.batches import BatchSource, Loader
from darts_hpc.distributed.world import World
from darts_hpc.run.metrics import Meter
from darts_hpc.training.cuda_graph import GraphedStep, hold_learning_rate_on
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.precision import Precision
from darts_hpc.training.rollback import Rollback
from darts_hpc.training.weight_average import WeightAverage

log = logging.getLogger(__name__)


class TrainingStep(NamedTuple):
    """A training's step and what it takes."""

    batches: Callable[[int, int], Iterator[Any]]
    """(epoch, first batch) -> an iterator of what steps take: batches, or what they are made of."""
    take: Callable[[Iterator[Any]], tuple[Tensor, Tensor]]
    """Update the weights once by the next batches; return loss and gradient norm (0-d), to be read before the next."""


def build_training_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    step_cfg: StepConfig,
    precision: Precision,
    meter: Meter,
    world: World,
    average: WeightAverage | None = None,
    *,
    as_graph: bool,
) -> TrainingStep:
    """Return the training's step, as a CUDA graph or eager. It updates `average`, and is rolled back out of memory.

    A graph takes images that are on the device by their numbers, and holds their selection and augmentation. The
    optimizer's learning rate moves to the device for it.
    """
    weights = list(network.parameters())
    rollback = Rollback(network, optimizer, others=[meter.totals])

    def take(batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        numbers = train_step(network, optimizer, batches, step_cfg, precision, weights, meter, world)
        if average is not None:
            average.update()
        return numbers

    def take_or_roll_back(batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        with rollback:
            return take(batches)

    if not as_graph:
        return TrainingStep(loader.batches, take_or_roll_back)
    hold_learning_rate_on(world.device, optimizer)
    source = loader if isinstance(loader, BatchSource) else None
    graphed = GraphedStep(
        lambda *inputs: take(map(source.load, inputs) if source else iter(inputs)), world, "training step"
    )

    def replay_or_roll_back(batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        inputs = [next(batches) for _ in range(step_cfg.accumulate)]
        with rollback:
            return graphed(*inputs)

    return TrainingStep(source.selections if source else loader.batches, replay_or_roll_back)


def build_forward(network: nn.Module, world: World, *, as_graph: bool) -> Callable[[Tensor], Tensor]:
    """Return what maps an evaluation's images to logits, as a CUDA graph or eager."""

    def forward(images: Tensor) -> Tensor:
        return network(images)[0]

    return GraphedStep(forward, world, "evaluation step") if as_graph else forward


def can_graph(asked: bool, optimizer_impl: str, device: torch.device) -> bool:
    """Return whether a training's steps become CUDA graphs, and warn where they can't. `asked` is --cuda_graph."""
    if not asked or device.type != "cuda":
        return False
    if optimizer_impl != "fused":
        log.warning(
            "no CUDA graph: --optimizer_impl %s reads the learning rate on the host; take auto or fused", optimizer_impl
        )
        return False
    return True
