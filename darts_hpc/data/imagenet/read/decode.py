"""Decoding by Pillow: every image for the torchvision loader, and for DALI those that it would read otherwise."""

import io

from PIL import Image

from darts_hpc.data.imagenet.list.inspect import DamagedImage
from darts_hpc.data.rgb import is_16_bit, to_rgb

JPEG = b"\xff\xd8"


def decode(content: bytes) -> Image.Image:
    """Decode to RGB. Raises DamagedImage."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return to_rgb(image)
    except Exception as error:  # Pillow's decoders raise all kinds
        raise DamagedImage(" ".join(str(error).split())) from None


def plain(content: bytes) -> bytes:
    """Return an image file's bytes; those of a PNG in RGB for one with alpha, which DALI drops, or with 16 bits.

    Raises DamagedImage.
    """
    if content.startswith(JPEG) or not _needs_pillow(content):
        return content
    file = io.BytesIO()
    decode(content).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _needs_pillow(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.has_transparency_data or is_16_bit(image)
    except Exception:
        return False  # DALI says what is wrong with it
