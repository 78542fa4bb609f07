"""Trade time for memory: forget a module's activations in forward, and run it again in backward."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *inputs: object) -> Tensor:
    """Return module(*inputs), keeping only the inputs for backward, which computes the rest once more: exact.

    The parameters are those of the forward pass, even where functional_call has swapped them in and out again by the
    time of backward; running statistics move in the forward pass only. Differentiable twice.
    """
    if not torch.is_grad_enabled():
        return module(*inputs)
    state: dict[str, Tensor] = dict(module.named_parameters())
    is_first = True

    def run(*inputs: object) -> Tensor:
        nonlocal is_first
        # BatchNorm saves its running statistics for backward, so a second run needs some to move: copies.
        copies = {} if is_first else {name: buffer.clone() for name, buffer in module.named_buffers()}
        is_first = False
        return torch.func.functional_call(module, state | copies, inputs)

    return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore[reportReturnType]


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use batch statistics, as in training, without updating its running ones."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
