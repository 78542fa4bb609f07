"""One network on many processes: all start with the same weights, and step by the mean of their gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darts_hpc.distributed.world import World


def start_alike(network: nn.Module, world: World) -> None:
    """Give every rank rank 0's weights and buffers. BatchNorm's running statistics are each rank's own from then on."""
    world.broadcast_([tensor.detach() for tensor in (*network.parameters(), *network.buffers())])


def average_gradients(weights: Sequence[nn.Parameter], world: World) -> None:
    """Replace the gradients of the weights by their means over ranks, exchanged as one vector.

    On every rank the same weights have a gradient, of one dtype; the others keep none. Each mean has its weight's
    strides, which fused optimizers take for granted.
    """
    weights = [weight for weight in weights if weight.grad is not None]
    if world.size == 1 or not weights:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if len(weights) > 1 or gradients[0].stride() != weights[0].stride():
        vector = gradients[0].new_empty(sum(weight.numel() for weight in weights))
        torch._foreach_copy_(_like(weights, vector), gradients)  # pyright: ignore[reportPrivateImportUsage]
    else:
        vector = gradients[0]
    (mean,) = world.mean([vector])
    for weight, gradient in zip(weights, _like(weights, mean), strict=True):
        weight.grad = gradient


def _like(weights: Sequence[nn.Parameter], vector: Tensor) -> list[Tensor]:
    """Return the slices of a vector (n,) with the sizes and strides of the weights, which are dense."""
    slices = vector.view(-1).split([weight.numel() for weight in weights])
    return [part.as_strided(weight.shape, weight.stride()) for part, weight in zip(slices, weights, strict=True)]
