"""The training images' two halves in a search: one trains the weights, the other the alphas."""

import torch
from torch import Tensor

from darts_hpc import counter_rng


def search_split(labels: Tensor, train_portion: float, seed: int, kind: str = "stratified") -> tuple[Tensor, Tensor]:
    """Return the sample ids (int64, ascending) that train the weights, and those that train the alphas.

    Args:
        labels: (N,) int64.
        train_portion: the weights' share, in (0, 1).
        seed: of the stratified split.
        kind: "stratified" takes that share of each class at random; "index" takes the first images for the weights, as
            the original does, which suits data that is in no order.

    Raises:
        ValueError: a side, or a class on one side, would be empty.
    """
    if not 0 < train_portion < 1:
        raise ValueError(f"--train_portion {train_portion} must be between 0 and 1")
    count = len(labels)
    if kind == "index":
        taken = torch.arange(count) < int(train_portion * count)
    elif kind == "stratified":
        taken = torch.zeros(count, dtype=torch.bool)
        for label in labels.unique().tolist():
            ids = (labels == label).nonzero().flatten()
            order = counter_rng.random_bits(seed, label, ids).argsort(stable=True)
            share = round(train_portion * len(ids))
            if not 0 < share < len(ids):
                raise ValueError(
                    f"--train_portion {train_portion} leaves a side without class {label}, which has {len(ids)} images"
                )
            taken[ids[order[:share]]] = True
    else:
        raise ValueError(f"split {kind!r} is unknown; choose stratified or index")
    if not taken.any() or taken.all():
        raise ValueError(f"--train_portion {train_portion} leaves one side of {count} images empty")
    return taken.nonzero().flatten(), (~taken).nonzero().flatten()
