"""From the bytes of any image to 8-bit RGB: the one place where images are decoded, for every data set and loader."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF", "JPEG2000")
"""What is tried, whatever a file calls itself. Pillow knows others that run programs, such as PostScript."""
JPEG = b"\xff\xd8"
NEAR_WHITE = 224
WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of a TIFF."""
WHITE_IS_ZERO, SIGNED = 0, 2
STEPS = {"L;2": 85, "L;4": 17}
"""How far apart a PNG's greys of 2 and 4 bits lie in 8, by Pillow's name for how they are stored."""


class DamagedImage(Exception):
    """Why an image can't be used."""


def decode(content: bytes) -> Image.Image:
    """Return an image in mode RGB; of an animation, or of several pages, the first.

    It is not turned by what EXIF says of a camera, as torchvision's ImageFolder does not turn it.

    Raises DamagedImage, one line, for what is no image, or one that ends early or whose colours can't be told.
    """
    with _opened(content) as image:
        return to_rgb(image)


def inspect(content: bytes) -> tuple[int, int]:
    """Return width and height of an image that decodes to its end. Raises DamagedImage as decode does."""
    with _opened(content) as image:
        size = image.size
        image.draft("RGB", (1, 1))  # a JPEG's whole stream is decoded, and only an eighth of its lines made
        rgb = to_rgb(image)
        return size if content.startswith(JPEG) else rgb.size  # a TIFF may be turned while it is decoded


def is_animated(content: bytes) -> bool:
    """Whether an image has more than one picture. Raises DamagedImage where it can't be opened."""
    if content.startswith(JPEG):  # a camera's second one is a preview
        return False
    with _opened(content) as image:
        return getattr(image, "is_animated", False)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB.

    A transparent image is composited on white, as pages show it; on black if all that can be seen of it is near white,
    so that a shape drawn by alpha alone stays visible whatever its colour. 16-bit greys are scaled to 8 bits.

    Raises ValueError for 32-bit and signed pixels, whose range is not known.
    """
    tags = getattr(image, "tag_v2", {})
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        bits = max(tags.get(BITS_PER_SAMPLE, (1,)))
        raise ValueError(f"it has signed {bits}-bit pixels; expected unsigned ones of 8 or 16 bits a channel")
    if image.format == "PNG" and "transparency" in image.info:
        image = _with_stored_key(image)
    if is_16_bit(image):
        image = _scaled(image)
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
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))


def _with_stored_key(image: Image.Image) -> Image.Image:
    """Return a PNG whose clear colour is compared in the bits that are stored; Pillow compares it with 8."""
    assert isinstance(image, ImageFile.ImageFile)
    tile, key = next(iter(image.tile), None), image.info["transparency"]
    if tile is None or tile.args not in (*STEPS, "RGB;16B"):
        return image
    if tile.args in STEPS:
        step = STEPS[tile.args]
        image.info["transparency"] = key % (255 // step + 1) * step
        return image
    file = image.fp
    assert file is not None
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as low:
        low.tile = [tile._replace(args="RGB;16L")]  # which keeps the other byte of each channel
        levels = np.asarray(low).astype(np.uint16)  # (H, W, 3)
    high = np.asarray(image)
    levels += high.astype(np.uint16) << 8
    rgba = Image.fromarray(high)
    rgba.putalpha(Image.fromarray(np.where((levels == key).all(-1), 0, 255).astype(np.uint8)))
    return rgba


def _scaled(image: Image.Image) -> Image.Image:
    """Return 16-bit greys in 8 bits, and in mode LA if one of the levels is transparent.

    A TIFF may have 12 bits, or white at 0, which Pillow inverts in 8 bits only.
    """
    tags = getattr(image, "tag_v2", {})
    bits = min(tags.get(BITS_PER_SAMPLE, (16,)))
    top, levels = (1 << bits) - 1, np.asarray(image).astype(np.int64)
    levels = top - levels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels
    grey = Image.fromarray(((levels * 255 + top // 2) // top).clip(0, 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image. Whatever Pillow's decoders then raise, and that is all kinds, is a DamagedImage."""
    if not content:
        raise DamagedImage("empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image
    except MemoryError:
        raise ValueError(
            f"memory ran out while an image of {len(content)} bytes was decoded; lower --num_threads or --batch_size"
        ) from None
    except Image.UnidentifiedImageError:
        raise DamagedImage(f"not an image: begins with {content[:12]!r}") from None
    except Exception as error:
        raise DamagedImage(" ".join(str(error).split()) or type(error).__name__) from None
