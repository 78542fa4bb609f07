"""Learning rates, as pure functions of the epoch: a resumed run needs no scheduler state."""

import math

from darts_hpc.config.train_imagenet import ImageNetOptimConfig
from darts_hpc.config.train_search import SearchOptimConfig


def cosine_learning_rate(epoch: int, epochs: int, maximum: float, minimum: float = 0.0) -> float:
    """Return the rate of an epoch (0-based): `maximum` in the first, approaching `minimum` after the last."""
    return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def search_learning_rate(epoch: int, epochs: int, cfg: SearchOptimConfig) -> float:
    """Return the rate of the supernet's weights: a cosine, with PC-DARTS' warm-up as in imagenet_learning_rate."""
    return cosine_learning_rate(epoch, epochs, cfg.learning_rate, cfg.learning_rate_min) * warm_up(epoch, cfg)


def warm_up(epoch: int, cfg: SearchOptimConfig | ImageNetOptimConfig) -> float:
    """Return the factor of a rate in an epoch (0-based)."""
    return min(1.0, (epoch + 1) / max(1, cfg.warmup_epochs))


def imagenet_learning_rate(epoch: int, epochs: int, cfg: ImageNetOptimConfig) -> float:
    """Return the rate of an epoch (0-based): the schedule's, times (epoch + 1) / warmup_epochs while that is below 1.

    The warm-up is PC-DARTS': it scales the rate of a schedule that already decays.
    """
    rates = {
        "step": step_learning_rate(epoch, cfg.learning_rate, cfg.gamma, cfg.decay_period),
        "linear": linear_learning_rate(epoch, epochs, cfg.learning_rate),
        "cosine": cosine_learning_rate(epoch, epochs, cfg.learning_rate),
    }
    return rates[cfg.lr_schedule] * warm_up(epoch, cfg)


def step_learning_rate(epoch: int, first: float, gamma: float, decay_period: int) -> float:
    """Return `first`, times gamma for every decay_period epochs that are done: the original's ImageNet schedule."""
    return first * gamma ** (epoch // decay_period)


def linear_learning_rate(epoch: int, epochs: int, first: float, tail: int = 5) -> float:
    """Return PC-DARTS' rate: linear to zero at epochs - tail, but with its last step spread over `tail` more.

    A run of no more than `tail` epochs gets a plain line to zero.
    """
    left, line = epochs - epoch, epochs - tail
    if line <= 0:
        return first * left / epochs
    return first * (left - tail) / line if left > tail else first * left / (line * tail)
