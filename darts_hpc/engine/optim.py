"""Optimizers, what a checkpoint keeps of them, and learning rates.

A rate is a pure function of the epoch, so a resumed run needs no scheduler state.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpc.config.schema import SgdConfig
from darts_hpc.models.relaxed import RelaxedNetwork


def build_sgd(weights: Iterable[nn.Parameter], cfg: SgdConfig) -> torch.optim.SGD:
    """Return SGD as the original uses it: plain momentum, coupled weight decay."""
    return torch.optim.SGD(weights, cfg.learning_rate, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def cosine_learning_rate(epoch: int, epochs: int, maximum: float, minimum: float = 0.0) -> float:
    """Return the rate of an epoch (0-based): `maximum` in the first, approaching `minimum` after the last."""
    return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


class NamedMomentum:
    """What SGD remembers, by the original's weight names: so that any form of the supernet can go on from it.

    The rate and the other settings are not kept: they follow from the configuration and the epoch.
    """

    def __init__(self, optimizer: torch.optim.SGD, supernet: RelaxedNetwork):
        self.optimizer, self.supernet = optimizer, supernet

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the momentum buffers by name; none before the first step."""
        weights, state = self.supernet.named_weights(), self.optimizer.state
        buffers = {name: state[w].get("momentum_buffer") for name, w in weights.items() if w in state}
        if len(buffers) < len(weights) or any(buffer is None for buffer in buffers.values()):
            return {"momentum_buffer": {}}
        layout = self.supernet.original_layout(buffers)
        return {"momentum_buffer": {name: view.clone() for name, view in layout.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the momentum buffers. They go into those that are there: a CUDA graph may hold them."""
        saved = state["momentum_buffer"]
        weights = self.supernet.named_weights()
        if not saved:
            for w in weights.values():
                self.optimizer.state.pop(w, None)
            return
        for w in weights.values():
            buffer = self.optimizer.state[w].get("momentum_buffer")
            self.optimizer.state[w]["momentum_buffer"] = torch.zeros_like(w) if buffer is None else buffer
        buffers = {name: self.optimizer.state[w]["momentum_buffer"] for name, w in weights.items()}
        for name, view in self.supernet.original_layout(buffers).items():
            view.copy_(saved[name])
