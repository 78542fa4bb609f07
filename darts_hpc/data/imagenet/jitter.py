"""torchvision's ColorJitter on a batch of uint8 images at once, pixel for pixel what it makes of Pillow images."""

import torch
from torch import Tensor


def jitter_batch(images: Tensor, factors: Tensor, orders: Tensor) -> Tensor:
    """Return images (B, H, W, 3) uint8, each changed by its four colour operations in its own order.

    factors (B, 4) float64 and orders (B, 4) int64 lie on the CPU, as Draws has them: nothing waits for the device.
    """
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
"""In the order of draws.JITTER."""


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
