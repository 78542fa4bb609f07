"""Detect numbers that are not finite: in every step on the device, read only when a run reports or saves."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from darts_hpc.distributed.world import World

NEVER = 2**62


class FirstBadStep:
    """The first step that a run can't continue from, kept on the device; adding a step does not wait for it."""

    def __init__(self, device: torch.device):
        self._step = torch.full((), NEVER, dtype=torch.int64, device=device)

    def add(self, step: int, is_good: Tensor) -> None:
        """Add a step, 1-based, and whether the run can continue from it (0-d bool)."""
        self._step = torch.minimum(self._step, torch.where(is_good, NEVER, step))

    def read(self, world: World) -> int | None:
        """Return the first bad step on any rank, or None. Every rank calls it; waits for the device."""
        first = min(world.gather_objects(self._step.item()))
        return None if first == NEVER else first


def first_not_finite(state: Mapping[str, object]) -> str | None:
    """Return the name of a floating tensor, in nested state dicts, that holds a NaN or an infinity; else None."""
    tensors = dict(_floating(state))
    if not tensors:
        return None
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    return next((name for name, ok in zip(tensors, finite, strict=True) if not ok), None)


def _floating(value: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor) and value.is_floating_point():
        yield name, value.detach()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _floating(item, f"{name}.{key}" if name else str(key))


def first_number_not_finite(numbers: Mapping[str, object]) -> str | None:
    """Return the name of a number, or of a nested list of numbers, that is not finite; else None."""
    return next((name for name, value in numbers.items() if not _is_finite(value)), None)


def _is_finite(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
