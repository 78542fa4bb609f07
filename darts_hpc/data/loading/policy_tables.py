"""What TrivialAugment and AutoAugment draw from: operations, their chances and magnitudes, as torchvision has them."""

from typing import NamedTuple

import torch


class Step(NamedTuple):
    """An operation by torchvision's name, the chance that it is taken, and the bin of its magnitude (None: drawn)."""

    operation: str
    chance: float = 1.0
    bin: int | None = None


class Magnitudes(NamedTuple):
    """Magnitudes of an operation by bin, and whether their sign is drawn."""

    values: list[float]
    signed: bool


WIDE = tuple(
    (Step(name),)
    for name in (
        "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
        "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
    )
)  # fmt: skip
"""TrivialAugment (Mueller and Hutter, 2021), wide: one of them for each image, at any magnitude."""

NAMES = (*(step.operation for (step,) in WIDE), "Invert")
"""Every operation; the first leaves an image as it is."""

CIFAR10 = (
    (Step("Invert", 0.1), Step("Contrast", 0.2, 6)),
    (Step("Rotate", 0.7, 2), Step("TranslateX", 0.3, 9)),
    (Step("Sharpness", 0.8, 1), Step("Sharpness", 0.9, 3)),
    (Step("ShearY", 0.5, 8), Step("TranslateY", 0.7, 9)),
    (Step("AutoContrast", 0.5), Step("Equalize", 0.9)),
    (Step("ShearY", 0.2, 7), Step("Posterize", 0.3, 7)),
    (Step("Color", 0.4, 3), Step("Brightness", 0.6, 7)),
    (Step("Sharpness", 0.3, 9), Step("Brightness", 0.7, 9)),
    (Step("Equalize", 0.6), Step("Equalize", 0.5)),
    (Step("Contrast", 0.6, 7), Step("Sharpness", 0.6, 5)),
    (Step("Color", 0.7, 7), Step("TranslateX", 0.5, 8)),
    (Step("Equalize", 0.3), Step("AutoContrast", 0.4)),
    (Step("TranslateY", 0.4, 3), Step("Sharpness", 0.2, 6)),
    (Step("Brightness", 0.9, 6), Step("Color", 0.2, 8)),
    (Step("Solarize", 0.5, 2), Step("Invert", 0.0)),
    (Step("Equalize", 0.2), Step("AutoContrast", 0.6)),
    (Step("Equalize", 0.2), Step("Equalize", 0.6)),
    (Step("Color", 0.9, 9), Step("Equalize", 0.6)),
    (Step("AutoContrast", 0.8), Step("Solarize", 0.2, 8)),
    (Step("Brightness", 0.1, 3), Step("Color", 0.7, 0)),
    (Step("Solarize", 0.4, 5), Step("AutoContrast", 0.9)),
    (Step("TranslateY", 0.9, 9), Step("TranslateY", 0.7, 9)),
    (Step("AutoContrast", 0.9), Step("Solarize", 0.8, 3)),
    (Step("Equalize", 0.8), Step("Invert", 0.1)),
    (Step("TranslateY", 0.7, 9), Step("AutoContrast", 0.9)),
)
"""AutoAugment's policy for CIFAR-10 (Cubuk et al., 2019, table 7): one pair for each image."""

SVHN = (
    (Step("ShearX", 0.9, 4), Step("Invert", 0.2)),
    (Step("ShearY", 0.9, 8), Step("Invert", 0.7)),
    (Step("Equalize", 0.6), Step("Solarize", 0.6, 6)),
    (Step("Invert", 0.9), Step("Equalize", 0.6)),
    (Step("Equalize", 0.6), Step("Rotate", 0.9, 3)),
    (Step("ShearX", 0.9, 4), Step("AutoContrast", 0.8)),
    (Step("ShearY", 0.9, 8), Step("Invert", 0.4)),
    (Step("ShearY", 0.9, 5), Step("Solarize", 0.2, 6)),
    (Step("Invert", 0.9), Step("AutoContrast", 0.8)),
    (Step("Equalize", 0.6), Step("Rotate", 0.9, 3)),
    (Step("ShearX", 0.9, 4), Step("Solarize", 0.3, 3)),
    (Step("ShearY", 0.8, 8), Step("Invert", 0.7)),
    (Step("Equalize", 0.9), Step("TranslateY", 0.6, 6)),
    (Step("Invert", 0.9), Step("Equalize", 0.6)),
    (Step("Contrast", 0.3, 3), Step("Rotate", 0.8, 4)),
    (Step("Invert", 0.8), Step("TranslateY", 0.0, 2)),
    (Step("ShearY", 0.7, 6), Step("Solarize", 0.4, 8)),
    (Step("Invert", 0.6), Step("Rotate", 0.8, 4)),
    (Step("ShearY", 0.3, 7), Step("TranslateX", 0.9, 3)),
    (Step("ShearX", 0.1, 6), Step("Invert", 0.6)),
    (Step("Solarize", 0.7, 2), Step("TranslateY", 0.6, 7)),
    (Step("ShearY", 0.8, 4), Step("Invert", 0.8)),
    (Step("ShearX", 0.7, 9), Step("TranslateY", 0.8, 3)),
    (Step("ShearY", 0.8, 5), Step("AutoContrast", 0.7)),
    (Step("ShearX", 0.7, 2), Step("Invert", 0.1)),
)
"""AutoAugment's policy for SVHN (table 8)."""


def wide_magnitudes(side: int) -> dict[str, Magnitudes]:
    """Return TrivialAugment's magnitudes for images of this side.

    It shifts by up to 32 pixels, the side of the paper's images; a smaller image by its side, that it is not mostly
    shifted away.
    """
    return _magnitudes(31, shear=0.99, translate=min(32.0, side), rotate=135.0, blend=0.99, posterize=6)


def auto_magnitudes(side: int) -> dict[str, Magnitudes]:
    """Return AutoAugment's magnitudes for images of this side."""
    return _magnitudes(10, shear=0.3, translate=150.0 / 331.0 * side, rotate=30.0, blend=0.9, posterize=4)


def _magnitudes(
    num_bins: int, *, shear: float, translate: float, rotate: float, blend: float, posterize: int
) -> dict[str, Magnitudes]:
    largest = {"ShearX": shear, "ShearY": shear, "TranslateX": translate, "TranslateY": translate, "Rotate": rotate}
    largest |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), blend)
    signed = {name: Magnitudes(torch.linspace(0.0, end, num_bins).tolist(), True) for name, end in largest.items()}
    bits = (8 - torch.arange(num_bins) / ((num_bins - 1) / posterize)).round()
    thresholds = torch.linspace(1.0, 0.0, num_bins)
    unsigned = {"Posterize": bits, "Solarize": thresholds}
    return signed | {name: Magnitudes(values.tolist(), False) for name, values in unsigned.items()}
