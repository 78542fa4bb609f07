"""The loops: one epoch of search or training, one evaluation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.data.loading.batches import Batch, Cycle, Loader
from darts_hpc.distributed.replicas import check_replicas
from darts_hpc.distributed.world import World
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.run.heartbeat import Heartbeat
from darts_hpc.run.metrics import Meter
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.selection import Score
from darts_hpc.training.data_parallel import average_gradients
from darts_hpc.training.precision import Precision
from darts_hpc.training.rollback import between_steps
from darts_hpc.training.search_step import SearchStep
from darts_hpc.training.weight_average import WeightAverage

if TYPE_CHECKING:
    from darts_hpc.run.run import Run
    from darts_hpc.training.training_step import TrainingStep


def search_epoch(
    supernet: RelaxedNetwork,
    step_search: SearchStep,
    optimizer: torch.optim.SGD,
    weights: Loader,
    alphas: Cycle,
    run: "Run",
    replica_check: int = 0,
    *,
    conditions: Callable[[int], Conditions] | None = None,
    with_keys: bool = False,
    with_alphas: bool = True,
    last_step: dict[str, Tensor] | None = None,
) -> Meter:
    """Alternate alpha and weight steps over the weights' half of the data (paper, algorithm 1); return its meter.

    The alphas' half is cycled through without replacement, in step with the global step. Every `replica_check` steps
    all ranks compare their alphas and weights. Raises ValueError where they differ, and Diverged as Run does.

    Args:
        weights, alphas: batches of the two halves.
        conditions: of the step with this global number, where the search draws or schedules anything.
        with_keys: hand the images' keys on, where the space draws by them.
        with_alphas: False while the alphas are held.
        last_step: filled with what the last step measured besides loss and accuracy (0-d, on the device).
    """
    parts = 3 if with_keys else 2
    supernet.train()
    pairs = run.window.wait.timed(_pairs(weights, alphas if with_alphas else None, run))
    for step in run.steps(weights.steps_per_epoch):
        with between_steps():
            train, valid = next(pairs)
        batches = train[:parts], valid[:parts]
        if conditions is None and with_alphas:
            numbers = step_search(*batches)
        else:
            numbers = step_search(*batches, conditions and conditions(run.global_step), with_alphas)
        run.meter.update(numbers.loss, numbers.logits, train.labels)
        norms = {"grad_norm/weights": numbers.weight_norm, "grad_norm/alphas": numbers.alpha_norm}
        finite = torch.stack([numbers.loss, *norms.values()]).isfinite().all()
        perturbation = numbers.perturbation()
        run.report_step(optimizer, norms | perturbation, num_images=len(train.labels), finite=finite)
        if last_step is not None:
            last_step |= {name: value.clone() for name, value in perturbation.items()}
        if replica_check and (step + 1) % replica_check == 0:
            check_replicas({**supernet.named_alphas(), **supernet.named_weights()}, run.world)
    return run.meter


def _pairs(weights: Loader, alphas: Cycle | None, run: "Run") -> Iterator[tuple[Batch, Batch]]:
    """Yield the batches of each step from where the run stands; where the alphas are held, nothing is read for them."""
    for train in weights.batches(run.epoch, run.step):
        yield train, train if alphas is None else alphas.batch(run.global_step)


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What a training step does with its batches."""

    batch_size: int
    """Images of a batch on this rank."""
    accumulate: int = 1
    """Batches of this rank whose gradients make one step."""
    auxiliary_weight: float = 0.4
    label_smooth: float = 0.0
    grad_clip: float = 5.0
    memory_format: torch.memory_format = torch.channels_last


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    training_step: "TrainingStep",
    step_cfg: StepConfig,
    precision: Precision,
    run: "Run",
    replica_check: int = 0,
    average: WeightAverage | None = None,
) -> Meter:
    """Train for one epoch, from the step where the run stands; return this rank's meter.

    Batches that don't fill a step at the end are left out. Every `replica_check` steps all ranks compare their weights
    and `average`, which `training_step` updates. Raises ValueError where they differ, Diverged as Run does, and
    RolledBack where memory runs out.
    """
    network.train()
    batches = run.window.wait.timed(training_step.batches(run.epoch, run.step * step_cfg.accumulate))
    replicas = dict(network.named_parameters())
    if average is not None:
        replicas |= {f"the average of {name}": weight for name, weight in average.network.named_parameters()}
    for step in run.steps(loader.steps_per_epoch // step_cfg.accumulate):
        if average is not None:
            average.begin_step(run.global_step)
        loss, norm = training_step.take(batches)
        numbers = {"grad_norm/weights": norm, **precision.numbers()}
        num_images = step_cfg.batch_size * step_cfg.accumulate
        run.report_step(optimizer, numbers, num_images, finite=precision.can_continue(loss, norm))
        if replica_check and (step + 1) % replica_check == 0:
            check_replicas(replicas, run.world)
    return run.meter


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    step_cfg: StepConfig,
    precision: Precision,
    weights: Sequence[nn.Parameter],
    meter: Meter,
    world: World,
) -> tuple[Tensor, Tensor]:
    """Update the weights once, by the mean gradient of the next batches of all ranks.

    Returns the sum of the batches' losses, and the gradient's norm before clipping, both 0-d.
    """
    losses = []
    for _ in range(step_cfg.accumulate):
        images, labels, keys = next(batches)
        images = images.to(torch.promote_types(weights[0].dtype, torch.float32), memory_format=step_cfg.memory_format)
        with precision.autocast():
            logits, logits_auxiliary = network(images, keys)
            loss = F.cross_entropy(logits, labels, label_smoothing=step_cfg.label_smooth)
            if logits_auxiliary is not None:
                auxiliary = F.cross_entropy(logits_auxiliary, labels, label_smoothing=step_cfg.label_smooth)
                loss = loss + step_cfg.auxiliary_weight * auxiliary
        precision.backward(loss / step_cfg.accumulate)
        meter.update(loss.detach(), logits, labels)
        losses.append(loss.detach())
    average_gradients(weights, world)
    return sum(losses[1:], losses[0]), precision.clip_and_step(optimizer, weights, step_cfg.grad_clip)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    source: Loader,
    run: "Run | None" = None,
    precision: Precision | None = None,
    memory_format: torch.memory_format = torch.channels_last,
    mixing: Mixing | None = None,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Meter:
    """Return this rank's meter of one pass in evaluation mode; a run may be stopped between two batches.

    A supernet mixes its candidates by `mixing`. `forward` maps images to logits in place of the model itself.
    """
    model.eval()
    meter = Meter(source.device)
    with between_steps(), Heartbeat(silent=run is None or not run.world.is_main) as heartbeat:
        for number, (images, labels, keys) in enumerate(source.batches(0), start=1):
            heartbeat.begin(f"batch {number} of the validation")
            if len(labels):  # a rank may have none of the last batch
                images = images.to(torch.promote_types(images.dtype, torch.float32), memory_format=memory_format)
                with torch.inference_mode(), precision.autocast() if precision else nullcontext():
                    if forward is not None:
                        logits = forward(images)
                    else:
                        output = model(images) if mixing is None else model(images, mixing, keys)
                        logits = output[0] if isinstance(output, tuple) else output
                    meter.update(F.cross_entropy(logits, labels), logits, labels)
            if run is not None:
                run.stop_if_asked()
    return meter


@torch.no_grad()
def score_batches(
    supernet: RelaxedNetwork,
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None]],
    mixing: Mixing,
    world: World,
    memory_format: torch.memory_format = torch.channels_last,
) -> Score:
    """Return accuracy and mean loss over all ranks' batches, with BatchNorm by batch statistics, as in DARTS-PT.

    A batch without labels is not counted. Running statistics are frozen, so that the supernet does not change.
    """
    supernet.train()
    meter = Meter(world.device)
    with frozen_running_statistics(supernet):
        for images, labels, keys in batches:
            logits = supernet(images.contiguous(memory_format=memory_format), mixing, keys)
            if len(labels):
                meter.update(F.cross_entropy(logits, labels), logits, labels)
    numbers = meter.compute(world)
    return Score(numbers["accuracy"], numbers["loss"])
