"""One epoch of ImageNet training: accumulated batches, a number format, averaged gradients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.data.loading.batches import Batch, Loader
from darts_hpc.distributed.replicas import check_replicas
from darts_hpc.run.metrics import Meter
from darts_hpc.training.data_parallel import synchronised
from darts_hpc.training.precision import Precision

if TYPE_CHECKING:
    from darts_hpc.run.run import Run


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What a step does with its batches."""

    batch_size: int
    """Images of a batch on this rank."""
    accumulate: int = 1
    """Batches of this rank whose gradients make one step."""
    auxiliary_weight: float = 0.4
    label_smooth: float = 0.1
    grad_clip: float = 5.0
    memory_format: torch.memory_format = torch.channels_last


def imagenet_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    recipe: StepConfig,
    precision: Precision,
    run: "Run",
    replica_check: int = 0,
) -> Meter:
    """Train for one epoch, from the step where the run stands; return this rank's meter.

    network: under DDP where there are several ranks. Batches that don't fill a step at the end are left out.
    """
    network.train()
    weights = dict(network.named_parameters())
    batches = run.window.wait.timed(loader.batches(run.epoch, run.step * recipe.accumulate))
    for _ in run.steps(loader.steps_per_epoch // recipe.accumulate):
        norm = train_step(network, optimizer, batches, recipe, precision, list(weights.values()), run.meter)
        numbers = {"grad_norm/weights": norm, "skipped_steps": precision.skipped}
        run.report_step(optimizer, numbers, recipe.batch_size * recipe.accumulate)
        if (run.step + 1) % run.cfg.report_freq == 0:
            precision.check_finite()
        if replica_check and (run.step + 1) % replica_check == 0:
            check_replicas(weights, run.world)
    precision.check_finite()
    return run.meter


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    recipe: StepConfig,
    precision: Precision,
    weights: Sequence[nn.Parameter],
    meter: Meter,
) -> Tensor:
    """Update the weights once, by the mean gradient of the next batches; return its norm (0-d) before clipping."""
    for index in range(recipe.accumulate):
        images, labels, keys = next(batches)
        images = images.to(torch.promote_types(weights[0].dtype, torch.float32), memory_format=recipe.memory_format)
        with synchronised(network, on=index == recipe.accumulate - 1):
            with precision.autocast():
                logits, logits_auxiliary = network(images, keys)
                loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smooth)
                if logits_auxiliary is not None:
                    auxiliary = F.cross_entropy(logits_auxiliary, labels, label_smoothing=recipe.label_smooth)
                    loss = loss + recipe.auxiliary_weight * auxiliary
            precision.backward(loss / recipe.accumulate)
        meter.update(loss.detach(), logits, labels)
    return precision.clip_and_step(optimizer, weights, recipe.grad_clip)
