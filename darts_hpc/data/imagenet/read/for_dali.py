"""What DALI is given to decode: JPEGs that every decoder reads alike, and of other images what Pillow makes of them."""

import io

from darts_hpc.data.rgb import JPEG, decode

START_OF_SCAN, APP14 = 0xDA, 0xEE
PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
"""Markers of the frames of baseline, extended and progressive JPEGs."""
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


def for_dali(content: bytes) -> bytes:
    """Return a plain JPEG's bytes as they are, and of any other image those of a PNG in RGB.

    Raises DamagedImage.
    """
    return content if is_plain_jpeg(content) else as_png(content)


def as_png(content: bytes) -> bytes:
    """Return the bytes of a PNG of what Pillow makes of an image. Raises DamagedImage."""
    file = io.BytesIO()
    decode(content).save(file, "PNG", compress_level=1)
    return file.getvalue()


def is_plain_jpeg(content: bytes) -> bool:
    """Whether it is a JPEG in 8-bit grey or YCbCr. Others DALI reads in other colours than Pillow, or not at all."""
    if not content.startswith(JPEG):
        return False
    at = 2
    while at + 18 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        elif marker in PLAIN_FRAMES:
            components = list(content[at + 10 : at + 10 + 3 * content[at + 9] : 3])
            return content[at + 4] == 8 and (len(components) == 1 or components in ([1, 2, 3], [0, 1, 2]))
        elif marker == START_OF_SCAN or (0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return False  # lossless or arithmetically coded
        elif marker == APP14 and content[at + 4 : at + 9] == b"Adobe" and content[at + 15] == 0:
            return False  # RGB, or CMYK
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False
