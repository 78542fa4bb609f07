"""The loops: one epoch of search or training, one evaluation."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from darts_hpc.data.loading.batches import BatchSource, Loader
from darts_hpc.distributed.replicas import check_replicas
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.run.metrics import Meter
from darts_hpc.training.precision import Precision
from darts_hpc.training.rollback import between_steps
from darts_hpc.training.search_step import SearchStep

if TYPE_CHECKING:
    from darts_hpc.run.run import Run


def search_epoch(
    supernet: RelaxedNetwork,
    step_search: SearchStep,
    optimizer: torch.optim.SGD,
    weight_source: BatchSource,
    alpha_source: BatchSource,
    run: "Run",
    replica_check: int = 0,
) -> Meter:
    """Alternate alpha and weight steps over the weights' half of the data (paper, algorithm 1); return its meter.

    The alphas' half is cycled through without replacement, in step with the global step. Every `replica_check` steps
    all ranks compare their alphas and weights. Raises ValueError where they differ.
    """
    supernet.train()
    for step in run.steps(weight_source.steps_per_epoch):
        with between_steps():
            train = weight_source.batch(run.epoch, step)
            valid = alpha_source.batch(*divmod(run.global_step, alpha_source.steps_per_epoch))
        numbers = step_search(train[:2], valid[:2])
        run.meter.update(numbers.loss, numbers.logits, train.labels)
        norms = {"grad_norm/weights": numbers.weight_norm, "grad_norm/alphas": numbers.alpha_norm}
        run.report_step(optimizer, norms, num_images=len(train.labels))
        if replica_check and (step + 1) % replica_check == 0:
            check_replicas({**supernet.named_alphas(), **supernet.named_weights()}, run.world)
    return run.meter


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.SGD,
    source: BatchSource,
    auxiliary_weight: float,
    grad_clip: float,
    run: "Run",
) -> Meter:
    """Train a derived network for one epoch; return its meter."""
    network.train()
    weights = list(network.parameters())
    for step in run.steps(source.steps_per_epoch):
        images, labels, keys = source.batch(run.epoch, step)
        logits, logits_auxiliary = network(images, keys)
        loss = F.cross_entropy(logits, labels)
        total = loss
        if logits_auxiliary is not None:
            total = loss + auxiliary_weight * F.cross_entropy(logits_auxiliary, labels)
        total.backward()
        run.world.average_gradients_(weights)
        norm = nn.utils.clip_grad_norm_(weights, grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        run.meter.update(total.detach(), logits, labels)
        run.report_step(optimizer, {"grad_norm/weights": norm}, num_images=len(labels))
    return run.meter


@torch.no_grad()
def evaluate(model: nn.Module, source: Loader, run: "Run | None" = None, precision: Precision | None = None) -> Meter:
    """Return this rank's meter of one pass in evaluation mode; a run may be stopped between two batches."""
    model.eval()
    meter = Meter(source.device)
    with between_steps():
        for images, labels, _ in source.batches(0):
            if len(labels):  # a rank may have none of the last batch
                with precision.autocast() if precision else nullcontext():
                    output = model(images.to(torch.promote_types(images.dtype, torch.float32)))
                    logits = output[0] if isinstance(output, tuple) else output
                    meter.update(F.cross_entropy(logits, labels), logits, labels)
            if run is not None:
                run.stop_if_asked()
    return meter
