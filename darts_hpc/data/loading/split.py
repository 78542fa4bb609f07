"""Splits of the training images: the two parts of a search, and the part that a training holds out."""

from collections.abc import Sequence

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


def class_shares(
    labels: Tensor, weight_share: float, alpha_share: float, seed: int, classes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return the sample ids (int64, ascending) of these shares of each class: for the weights, and for the alphas.

    Args:
        labels: (N,) int64.
        weight_share, alpha_share: in (0, 1), at most 1 together.
        classes: names by label.

    Raises:
        ValueError: a class has too few images for a share.
    """
    drawn = counter_rng.random_bits(seed, labels, torch.arange(len(labels))).argsort(stable=True)
    drawn = drawn[labels[drawn].argsort(stable=True)]  # by class, and in each as drawn
    counts = labels.bincount(minlength=len(classes))
    of_weights = (weight_share * counts).round().long()
    of_alphas = (alpha_share * counts).round().long().minimum(counts - of_weights)
    for flag, share, taken in (("weight", weight_share, of_weights), ("alpha", alpha_share, of_alphas)):
        if not taken.all():
            few = int((taken == 0).int().argmax())
            raise ValueError(
                f"--{flag}_share {share} takes none of the {counts[few]} training images of class {classes[few]!r}; "
                "raise it, or remove the class"
            )
    own = labels[drawn]
    place = torch.arange(len(drawn)) - (counts.cumsum(0) - counts)[own]  # within its class
    for_weights = place < of_weights[own]
    for_alphas = ~for_weights & (place < (of_weights + of_alphas)[own])
    return drawn[for_weights].sort().values, drawn[for_alphas].sort().values


def held_out_split(labels: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the sample ids (int64, ascending) that train, and those kept out, with labels (N,) evenly in both.

    Raises ValueError when a class would be missing on one side.
    """
    try:
        return search_split(labels, 1 - held_out, seed)
    except ValueError:
        smallest = int(labels.bincount().clamp(min=1).min())
        raise ValueError(
            f"--held_out {held_out}: some class has only {smallest} images, too few for both sides; try another share"
        ) from None
