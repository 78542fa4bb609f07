"""What a search step depends on besides its batches: the epoch's schedules, and what is drawn at random.

All of it is a function of (seed, epoch, step), the same on every rank and in every pass of a step, and lies on the
device, where a CUDA graph can read it.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from darts_hpc import counter_rng

ALPHA_PASS, WEIGHT_PASS = 0, 1
KIND = 1 << 20
"""The random numbers of each kind of cell start at a multiple of this position."""


@dataclass(frozen=True)
class Draw:
    """The random numbers of one pass for one kind of cell: functions of its key (0-d int64)."""

    key: Tensor
    kind: int

    def gumbel(self, shape: torch.Size) -> Tensor:
        """Return standard Gumbel numbers, float64."""
        return counter_rng.gumbel(self.key, self._positions(shape), 0)

    def dirichlet(self, concentration: Tensor) -> Tensor:
        """Return samples (E, O) of the Dirichlet distributions with these concentrations (E, O), float64."""
        with torch.no_grad():
            gammas = counter_rng.gamma(concentration, self.key, self._positions(concentration.shape), 1)
            gammas = gammas.clamp_min(1e-30)
            return gammas / gammas.sum(-1, keepdim=True)

    def uniform(self, shape: torch.Size) -> Tensor:
        """Return uniform numbers between -1 and 1, float64."""
        return 2 * counter_rng.uniform(self.key, self._positions(shape), 2) - 1

    def _positions(self, shape: torch.Size) -> Tensor:
        count = shape.numel()
        return torch.arange(self.kind * KIND, self.kind * KIND + count, device=self.key.device).view(shape)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions of one step; every tensor is 0-d."""

    alpha_key: Tensor
    """Draws of the alpha step, in all its passes."""
    weight_key: Tensor
    """Draws of the weight step."""
    tau: Tensor
    """Temperature of gumbel."""
    epsilon: Tensor
    """Size of the perturbation."""
    auxiliary_share: Tensor
    """Share of the auxiliary skip."""
    regulariser_weight: Tensor
    """Weight of the alphas' regulariser."""
    drop_path: Tensor
    """Chance to drop an edge."""

    def draw(self, key: Tensor, kind: int) -> Draw:
        """Return the random numbers of a pass, by its key, for one kind of cell."""
        return Draw(key, kind)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        return [getattr(self, item.name) for item in fields(self)]

    def with_tensors(self, tensors: list[Tensor]) -> "Conditions":
        """Return these conditions with other tensors, in the order of `tensors()`."""
        return replace(self, **{item.name: tensor for item, tensor in zip(fields(self), tensors, strict=True)})
