"""TrivialAugment and AutoAugment of many images at once, by torchvision's own operations.

Each image's draws come from its own key. Images with the same operation and magnitude are changed together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.loading.policy_tables import (
    CIFAR10,
    NAMES,
    SVHN,
    WIDE,
    Magnitudes,
    Step,
    auto_magnitudes,
    wide_magnitudes,
)

CHOICE, CHANCE, BIN, SIGN = range(5, 9)
"""Streams of random numbers of one image, besides those of augment.py."""
MOST_BINS = 31
MOST_VALUES = 1 << 22
"""Of images that are changed together: an operation takes some 30 times their bytes."""


class Group(NamedTuple):
    """Images, by their positions (n,) among the keys, that are changed alike."""

    operation: str
    magnitude: float
    members: Tensor


@dataclass(frozen=True)
class Policy:
    """One of `choices` for each image: steps, equally many, that are taken one after the other, each by its chance.

    magnitudes: side of the images -> magnitudes of the operations that have some.
    """

    choices: tuple[tuple[Step, ...], ...]
    magnitudes: Callable[[int], dict[str, Magnitudes]]

    def change(self, images: Tensor, keys: Tensor) -> None:
        """Change the images (N, 3, side, side) uint8 by their keys (N,) int64, in place.

        The numbers of images are read on the host, so this is no part of a step.
        """
        from darts_hpc.data.loading.policy_operations import OPERATIONS  # imports torchvision: seconds

        most = max(1, MOST_VALUES // images[0].numel())
        for slot in range(len(self.choices[0])):
            for operation, magnitude, members in self.draw(keys, slot, images.shape[-1]):
                for part in members.split(most):
                    images[part] = OPERATIONS[operation](images[part].contiguous(), magnitude)

    def draw(self, keys: Tensor, slot: int, side: int) -> Iterator[Group]:
        """Yield the groups of images that are changed in one of the steps' places; the others stay as they are."""
        steps, magnitudes = [choice[slot] for choice in self.choices], self.magnitudes(side)
        own = [magnitudes.get(step.operation, Magnitudes([0.0], signed=False)) for step in steps]
        chosen = counter_rng.randint(len(steps), keys, CHOICE)

        def of_chosen(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=keys.device, dtype=torch.float64)[chosen]

        taken = counter_rng.uniform(keys, CHANCE, slot) < of_chosen([step.chance for step in steps])
        given = of_chosen([-1 if step.bin is None else step.bin for step in steps])
        drawn = (counter_rng.uniform(keys, BIN, slot) * of_chosen([len(each.values) for each in own])).floor()
        negative = counter_rng.uniform(keys, SIGN, slot) < of_chosen([each.signed / 2 for each in own])
        operation = of_chosen([NAMES.index(step.operation) for step in steps])
        codes = (operation * MOST_BINS + torch.where(given < 0, drawn, given)) * 2 + negative
        codes = torch.where(taken, codes, 0).long()  # 0 is Identity's
        order = codes.argsort(stable=True)
        found, counts = codes[order].unique_consecutive(return_counts=True)
        for code, members in zip(found.tolist(), order.split(counts.tolist()), strict=True):
            name, at = NAMES[code // 2 // MOST_BINS], code // 2 % MOST_BINS
            if name != "Identity":
                magnitude = magnitudes[name].values[at] if name in magnitudes else 0.0
                yield Group(name, -magnitude if code % 2 else magnitude, members)


def policy_of(augment: str, dataset: str) -> Policy | None:
    """Return the policy of --augment; AutoAugment has one of its own for SVHN."""
    if augment == "none":
        return None
    if augment == "trivial":
        return Policy(WIDE, wide_magnitudes)
    return Policy(SVHN if dataset == "svhn" else CIFAR10, auto_magnitudes)
