"""From any image that Pillow opens to 8-bit RGB, without losing what a shape's transparency or 16 bits say."""

import numpy as np
from PIL import Image

NEAR_WHITE = 224
WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB.

    A transparent image is composited on white, as pages show it; on black if all that can be seen of it is near white,
    so that a shape drawn by alpha alone stays visible whatever its colour. 16-bit greys are scaled to 8 bits.

    Raises ValueError for 32-bit pixels, whose range is not known.
    """
    if is_16_bit(image):
        levels = (np.asarray(image).astype(np.int64) + 128) // 257
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("it has 32-bit pixels; expected 8 or 16 bits a channel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    pixels = np.asarray(image)
    visible = pixels[pixels[..., 3] > 0][:, :3]  # (N, 3)
    background = BLACK if visible.size and visible.min() >= NEAR_WHITE else WHITE
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


def is_16_bit(image: Image.Image) -> bool:
    """Whether an image's pixels are 16-bit greys, which Pillow's own conversion would clip to white."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
