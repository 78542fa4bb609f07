"""Regularisers, which are added to the alphas' loss, and their weight in each epoch."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def beta(alphas: Sequence[Tensor]) -> Tensor:
    """Return the mean over edges of logsumexp(alpha), summed over cell kinds (beta-DARTS, equation 14): it keeps the
    softmax weights from growing, the large ones most."""
    return sum((alpha.logsumexp(-1).mean() for alpha in alphas[1:]), alphas[0].logsumexp(-1).mean())


def kl(alphas: Sequence[Tensor]) -> Tensor:
    """Return KL(Dir(elu(alpha) + 1) || Dir(1)), summed over the edges of all cell kinds (DrNAS, equation 8)."""
    terms = [_kl_from_uniform(F.elu(alpha) + 1) for alpha in alphas]
    return sum(terms[1:], terms[0])


def _kl_from_uniform(concentration: Tensor) -> Tensor:
    total, num_operations = concentration.sum(-1), concentration.shape[-1]
    normaliser = total.lgamma() - concentration.lgamma().sum(-1) - math.lgamma(num_operations)
    spread = concentration.digamma() - total.digamma()[..., None]
    return (normaliser + ((concentration - 1) * spread).sum(-1)).sum()


def zero_one(alphas: Sequence[Tensor]) -> Tensor:
    """Return -mean((sigmoid(alpha) - 1/2)^2) over all entries: it drives gates to 0 or 1 (FairDARTS, equation 5)."""
    return -(torch.cat([alpha.sigmoid() for alpha in alphas]) - 0.5).square().mean()


# name of --alpha_regulariser -> term(alphas of each cell kind) -> 0-d
REGULARISERS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {"beta": beta, "kl": kl, "zero_one": zero_one}

# name -> weight where --alpha_regulariser_weight is not given
DEFAULT_WEIGHTS = {"beta": 50.0, "kl": 1e-3, "zero_one": 10.0}


def regulariser_weight(name: str, weight: float, progress: float) -> float:
    """Return the weight in an epoch: beta's grows from 0 to `weight` as progress, epoch / epochs, goes from 0 to 1."""
    return weight * progress if name == "beta" else weight
