"""How alphas (E, O) of one kind of cell become the weights m (E, O) of the operations on its edges."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from darts_hpc.search.conditions import Draw

Relaxation = Callable[[Tensor, Draw | None, Tensor | float], Tensor]
"""(alphas (E, O), random numbers or None, temperature) -> m (E, O). Without random numbers, the mean or the mode."""


def softmax(alphas: Tensor, draw: Draw | None = None, tau: Tensor | float = 1.0) -> Tensor:
    """Return softmax over each edge's operations (paper, equation 2)."""
    return alphas.softmax(-1)


def sigmoid(alphas: Tensor, draw: Draw | None = None, tau: Tensor | float = 1.0) -> Tensor:
    """Return independent gates, which do not compete (FairDARTS, equation 3)."""
    return alphas.sigmoid()


def dirichlet(alphas: Tensor, draw: Draw | None = None, tau: Tensor | float = 1.0) -> Tensor:
    """Return a sample of Dir(elu(alpha) + 1), differentiable in alpha; without a draw its mean (DrNAS, eq. 5)."""
    concentration = F.elu(alphas) + 1
    if draw is None:
        return concentration / concentration.sum(-1, keepdim=True)
    sample = draw.dirichlet(concentration.detach()).to(concentration.dtype)
    return _DirichletSample.apply(concentration, sample)  # pyright: ignore[reportReturnType]


class _DirichletSample(torch.autograd.Function):
    """A given sample as a function of its concentrations, by implicit reparametrisation (Figurnov et al., 2018)."""

    @staticmethod
    def forward(ctx, concentration: Tensor, sample: Tensor) -> Tensor:
        ctx.save_for_backward(concentration, sample)
        return sample.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        concentration, sample = ctx.saved_tensors
        by_entry = _dirichlet_gradient(sample, concentration)
        return by_entry * (grad_output - (sample * grad_output).sum(-1, keepdim=True)), None


def _dirichlet_gradient(sample: Tensor, concentration: Tensor) -> Tensor:
    if sample.is_meta or isinstance(sample, FakeTensor):  # memory is predicted: torch has no meta kernel for it
        return torch.empty_like(sample)
    total = concentration.sum(-1, keepdim=True).expand_as(concentration)
    return torch._dirichlet_grad(sample, concentration, total)  # pyright: ignore[reportPrivateImportUsage]


def gumbel(alphas: Tensor, draw: Draw | None = None, tau: Tensor | float = 1.0) -> Tensor:
    """Return 1 for the operation drawn on each edge, and 0 for the others (GDAS, equations 3 and 4).

    The gradient is that of p = softmax((log softmax(alpha) + gumbel) / tau) at the drawn entry alone, because only the
    drawn operation runs. Without random numbers the likeliest operation is drawn.
    """
    logits = alphas.log_softmax(-1)
    if draw is not None:
        logits = (logits + draw.gumbel(alphas.shape).to(alphas.dtype)) / tau
    p = logits.softmax(-1)
    drawn = p.argmax(-1, keepdim=True)
    chosen = p.gather(-1, drawn)
    return torch.zeros_like(p).scatter(-1, drawn, 1 - chosen.detach() + chosen)


# name of --relaxation -> m of one kind of cell
RELAXATIONS: dict[str, Relaxation] = {
    "softmax": softmax,
    "dirichlet": dirichlet,
    "gumbel": gumbel,
    "sigmoid": sigmoid,
}

STRENGTHS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": sigmoid}
"""name of --relaxation -> what the magnitude rule compares, where that is not softmax(alpha)."""


EXPECTED: dict[str, Relaxation] = {"gumbel": softmax}
"""name of --relaxation -> its weights on average over what is drawn, where these are not those without a draw."""

LABELS = {"sigmoid": "sigmoid(alpha)", "dirichlet": "mean of Dir(elu(alpha) + 1)", "own": "weights of operations"}
"""name of --relaxation -> what those weights are, for records and pictures, where that is not softmax(alpha)."""


def edge_softmax(betas: Tensor) -> Tensor:
    """Return edge weights b (E,): softmax of betas (E,) over the edges that enter each node (PC-DARTS, equation 3)."""
    parts, first, num_inputs = [], 0, 2
    while first < len(betas):
        parts.append(betas[first : first + num_inputs].softmax(0))
        first, num_inputs = first + num_inputs, num_inputs + 1
    return torch.cat(parts)
