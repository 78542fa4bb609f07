"""Drop path: an edge's output is left out for some images, and scaled up for the others."""

import torch
from torch import Tensor

from darts_hpc import counter_rng


def drop_path_factors(
    keys: Tensor | None, batch_size: int, num_paths: int, drop_prob: float | Tensor, like: Tensor
) -> Tensor:
    """Return (num_paths, B, 1, 1, 1) factors: 0 with probability drop_prob, else 1 / (1 - drop_prob), for each image.

    They are a pure function of the images' keys (B,) int64; without keys they come from torch's global generator.
    """
    if keys is None:
        keys = torch.randint(2**62, (batch_size,), device=like.device)
    paths = torch.arange(num_paths, device=like.device)[:, None]
    kept = counter_rng.uniform(keys, paths) >= drop_prob  # (P, B)
    return (kept.to(like.dtype) / (1 - drop_prob))[:, :, None, None, None]


def drop_path_chance(now: float | Tensor, drop_prob: float, device: torch.device) -> float | Tensor:
    """Return a network's next chance to drop a path, after `now`: 0.0, or a tensor from the first other number on.

    It is filled in place: a CUDA graph reads it, and another number would compile the network anew.
    """
    if isinstance(now, Tensor):
        return now.fill_(drop_prob)
    return torch.tensor(drop_prob, dtype=torch.float64, device=device) if drop_prob > 0 else 0.0


def random_factors(like: Tensor, num_paths: int, drop_prob: float) -> Tensor:
    """Return such factors for images `like` (B, ...), drawn by torch's global generator; torch.jit and fx take it."""
    kept = 1.0 - drop_prob
    return like.new_empty([num_paths, like.shape[0], 1, 1, 1]).bernoulli_(kept).div_(kept)
