"""The operations of TrivialAugment and AutoAugment, which are torchvision's."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torchvision.transforms.v2 import functional as F


def _affine(x: Tensor, translate: Sequence[float], shear: Sequence[float], center: list[float] | None) -> Tensor:
    return F.affine(x, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), center=center)


# name -> change(images (N, 3, H, W) uint8, magnitude); what comes into view is black
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda x, _: x,
    "ShearX": lambda x, m: _affine(x, (0, 0), (math.degrees(math.atan(m)), 0.0), [0.0, 0.0]),
    "ShearY": lambda x, m: _affine(x, (0, 0), (0.0, math.degrees(math.atan(m))), [0.0, 0.0]),
    "TranslateX": lambda x, m: _affine(x, (int(m), 0), (0.0, 0.0), None),
    "TranslateY": lambda x, m: _affine(x, (0, int(m)), (0.0, 0.0), None),
    "Rotate": lambda x, m: F.rotate(x, m),
    "Brightness": lambda x, m: F.adjust_brightness(x, 1 + m),
    "Color": lambda x, m: F.adjust_saturation(x, 1 + m),
    "Contrast": lambda x, m: F.adjust_contrast(x, 1 + m),
    "Sharpness": lambda x, m: F.adjust_sharpness(x, 1 + m),
    "Posterize": lambda x, m: F.posterize(x, int(m)),
    "Solarize": lambda x, m: F.solarize(x, 255 * m),
    "AutoContrast": lambda x, _: F.autocontrast(x),
    "Equalize": lambda x, _: F.equalize(x),
    "Invert": lambda x, _: F.invert(x),
}
