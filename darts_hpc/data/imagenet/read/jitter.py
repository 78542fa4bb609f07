"""Colour jitter on a batch of uint8 images at once.

jitter_batch is torchvision's ColorJitter, pixel for pixel what it makes of Pillow images. twist_batch is DALI's
color_twist, one linear map of the colours: near in distribution, and cheap.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.321), (0.211, -0.523, 0.311))
"""DALI's, of dali/operators/image/color/color_twist.h; the way back is its inverse."""
MIDDLE = 128
"""The grey that contrast leaves alone."""


def twist_batch(images: Tensor, factors: Tensor) -> Tensor:
    """Return images (B, H, W, 3) uint8 with brightness, contrast, saturation and hue changed as fn.color_twist does.

    factors (B, 4) float64 are on the CPU, in the order of augment_params.JITTER, hue in turns. DALI's own operator
    takes more than twice the time on a CPU, and takes it where a GPU waits for its images.
    """
    return _in_turns(_twist, images, *_twists(factors))


def _twists(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return matrices (B, 3, 3) that colours are multiplied with, and offsets (B, 1), float32."""
    brightness, contrast, saturation, hue = factors.unbind(1)
    angles = 2 * math.pi * hue
    turns = torch.diag_embed(torch.stack((torch.ones_like(angles), *[saturation * angles.cos()] * 2), dim=1))
    turns[:, 1, 2], turns[:, 2, 1] = saturation * angles.sin(), -saturation * angles.sin()
    to_yiq = torch.tensor(RGB_TO_YIQ, dtype=torch.float64)
    matrices = (brightness * contrast)[:, None, None] * (to_yiq.inverse() @ turns @ to_yiq)
    offsets = brightness * MIDDLE * (1 - contrast)
    return matrices.float(), offsets[:, None].float()


def _twist(images: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """Sum products of whole planes: a matrix product might round by the size of its batch, or in TF32."""
    matrices, offsets = (part.to(images.device, non_blocking=True)[..., None, None] for part in (matrices, offsets))
    red, green, blue = images.movedim(-1, 0).contiguous().float()  # (B, H, W) each
    changed = []
    for weights in matrices.unbind(1):  # (B, 3, 1, 1): of red, green and blue in one colour
        of_red, of_green, of_blue = weights.unbind(1)
        plane = torch.addcmul(offsets[:, 0], red, of_red).addcmul_(green, of_green).addcmul_(blue, of_blue)
        changed.append(plane.round_().clamp_(0, 255).to(torch.uint8))
    return torch.stack(changed, dim=-1)


def jitter_batch(images: Tensor, factors: Tensor, orders: Tensor) -> Tensor:
    """Return images (B, H, W, 3) uint8, each changed by its four colour operations in its own order.

    factors (B, 4) float64 and orders (B, 4) int64 are on the CPU, as in AugmentParams: nothing waits for the device.
    """
    return _in_turns(_jitter, images, factors, orders)


def _in_turns(change: Callable[..., Tensor], images: Tensor, *drawn: Tensor) -> Tensor:
    """Change images (B, H, W, 3) as what was drawn for them says: one by one on a CPU, in whose cache one fits."""
    if images.device.type != "cpu" or len(images) == 0:
        return change(images, *drawn)
    return torch.cat([change(*one) for one in zip(*(part.split(1) for part in (images, *drawn)), strict=True)])


def _jitter(images: Tensor, factors: Tensor, orders: Tensor) -> Tensor:
    images = images.clone()
    for turn in orders.unbind(1):  # (B,) the operation of each image
        for number, operation in enumerate(OPERATIONS):
            chosen = (turn == number).nonzero()[:, 0]
            if len(chosen):
                rows = chosen.to(images.device, non_blocking=True)
                factor = factors[chosen, number].to(images.device, non_blocking=True)
                images[rows] = operation(images[rows], factor)
    return images


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros_like(images[..., :1]), images, factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean of the grey image, rounded."""
    means = (_grey(images).double().mean((1, 2), keepdim=True) + 0.5).to(torch.uint8)  # (B, 1, 1)
    return _blend(means[..., None], images, factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image."""
    return _blend(_grey(images)[..., None], images, factors)


def adjust_hue(images: Tensor, factors: Tensor) -> Tensor:
    """Turn the hue, which Pillow keeps in 256 steps, as it keeps saturation and value."""
    hue, saturation, value = _hsv(images)
    shift = (factors * 255).to(torch.int64)[:, None, None]  # truncated, as numpy's int32 of it
    return _rgb((hue + shift) & 255, saturation, value)


OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
"""In the order of augment_params.JITTER."""


def _blend(degenerate: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Pillow's Blend.c: float32, truncated, and clipped."""
    low = degenerate.float()
    step = factors.float()[:, None, None, None] * (images.float() - low)
    return (low + step).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Pillow's L24 (B, H, W): a fixed-point weighting of the colours."""
    red, green, blue = images.int().unbind(-1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)


def _hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pillow's rgb2hsv: hue, saturation, value (B, H, W) in 0..255; float32 and float64 where it has them."""
    red, green, blue = images.int().unbind(-1)
    top, bottom = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = (top - bottom).float().clamp(min=1)
    to_red, to_green, to_blue = ((top - colour).float() / chroma for colour in (red, green, blue))
    sector = torch.where(
        red == top,
        to_blue - to_green,
        torch.where(
            green == top,
            (2.0 + to_red.double() - to_blue.double()).float(),
            (4.0 + to_green.double() - to_red.double()).float(),
        ),
    )
    hue = (sector.double() / 6.0 + 1.0).fmod(1.0).float()
    saturation = chroma / top.float().clamp(min=1)
    hue, saturation = ((part.double() * 255.0).long().clamp(0, 255) for part in (hue, saturation))
    is_grey = top == bottom
    return hue.masked_fill(is_grey, 0), saturation.masked_fill(is_grey, 0), top.long()


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Pillow's hsv2rgb, back to images (B, H, W, 3) uint8."""
    turned = hue.float().double() * 6.0 / 255.0
    sector = turned.floor()
    rest = (turned - sector).float().double()
    share = (saturation.float().double() / 255.0).float().double()
    bright = value.double()
    dark = _round(bright * (1.0 - share))
    falling = _round(bright * (1.0 - share * rest))
    rising = _round(bright * (1.0 - share * (1.0 - rest)))
    choices = torch.stack((value, rising, falling, dark))  # (4, B, H, W): v, t, q, p
    picked = torch.tensor(SECTORS, device=hue.device)[sector.long() % 6]  # (B, H, W, 3)
    return choices.gather(0, picked.movedim(-1, 0)).movedim(0, -1).to(torch.uint8)


SECTORS = ((0, 1, 3), (2, 0, 3), (3, 0, 1), (3, 2, 0), (1, 3, 0), (0, 3, 2))
"""Which of v, t, q, p the red, green and blue of each sixth of the hue circle are."""


def _round(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255).long()
