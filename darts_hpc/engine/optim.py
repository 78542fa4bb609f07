"""Optimizers and learning rates. A rate is a pure function of the epoch, so a resumed run needs no scheduler state."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from darts_hpc.config.schema import SgdConfig


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
