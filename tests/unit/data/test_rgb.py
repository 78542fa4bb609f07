"""To RGB: alpha, palettes and 16 bits keep what they say."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darts_hpc.data.rgb import DamagedImage, decode, to_rgb

RED_ON_WHITE = [[(255, 0, 0), (255, 255, 255)]]


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    """The image as it is read back from a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


def red_and_clear() -> Image.Image:
    """A red pixel, and one that is clear and red below."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    return image


def red_palette(**options: Any) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    return stored(image, **options)


@pytest.mark.parametrize(
    "image",
    [
        stored(red_and_clear()),
        stored(red_and_clear(), "WEBP", lossless=True, exact=True),
        stored(red_and_clear(), "TIFF"),
        red_and_clear().convert("RGBa"),
        red_palette(transparency=b"\xff\x00"),
        red_palette(transparency=1),
        red_palette(kind="GIF", transparency=1),
    ],
    ids=["RGBA", "WebP", "TIFF", "premultiplied", "palette with alphas", "palette", "GIF"],
)
def test_what_is_clear_is_white(image: Image.Image):
    assert pixels(to_rgb(image)) == RED_ON_WHITE


def test_the_other_modes_with_alpha_are_composited_too():
    grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA")
    assert pixels(to_rgb(stored(grey))) == [[(9,) * 3, (255,) * 3]]
    palette = Image.new("P", (2, 1)).convert("PA")
    palette.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
    assert palette.mode == "PA" and pixels(to_rgb(palette))[0][1] == (255,) * 3
    keyed = stored(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), transparency=(4, 5, 6))
    assert keyed.mode == "RGB" and pixels(to_rgb(keyed)) == [[(1, 2, 3), (255,) * 3]]


def png(bits: int, color: int, row: bytes, key: tuple[int, ...]) -> Image.Image:
    """One row of two pixels with a clear colour, as the format's definition has it; Pillow writes 8 bits only."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 2, 1, bits, color, 0, 0, 0),
        b"tRNS": struct.pack(f">{len(key)}H", *key),
        b"IDAT": zlib.compress(b"\0" + row),
        b"IEND": b"",
    }
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks.items()]
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts)))


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (png(1, 0, b"\x40", (1,)), (0, 0, 0)),
        (png(2, 0, b"\x90", (1,)), (170,) * 3),
        (png(4, 0, b"\x71", (1,)), (119,) * 3),
        (png(8, 0, b"\x07\x01", (1,)), (7,) * 3),
        (png(16, 0, b"\x80\x80\x80\x81", (0x8081,)), (128,) * 3),
        (png(8, 2, bytes((1, 2, 3, 4, 5, 6)), (4, 5, 6)), (1, 2, 3)),
        (png(16, 2, bytes((1, 9, 2, 9, 3, 8, 1, 9, 2, 9, 3, 9)), (0x0109, 0x0209, 0x0309)), (1, 2, 3)),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "RGB", "RGB of 16 bits, alike in 8"],
)
def test_a_pngs_clear_colour_is_compared_in_the_bits_that_are_stored(image: Image.Image, colour: tuple[int, ...]):
    assert pixels(to_rgb(image)) == [[colour, (255,) * 3]]


def test_a_shape_near_white_is_put_on_black():
    image = Image.new("RGBA", (2, 1), (250, 250, 250, 0))
    image.putpixel((0, 0), (250, 250, 250, 255))
    assert pixels(to_rgb(image)) == [[(250,) * 3, (0,) * 3]]


def test_nothing_to_be_seen_is_white():
    assert pixels(to_rgb(Image.new("RGBA", (2, 1), (7, 7, 7, 0)))) == [[(255,) * 3] * 2]


def test_an_opaque_image_keeps_every_bit():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    noise[..., 3] = 255
    assert np.array_equal(np.asarray(to_rgb(Image.fromarray(noise))), noise[..., :3])
    assert np.array_equal(np.asarray(to_rgb(Image.fromarray(noise[..., :3].copy()))), noise[..., :3])
    assert pixels(to_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0)))) == [[(255, 0, 0)]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_greys_are_scaled(kind: str):
    grey = stored(Image.fromarray(np.array([[0, 257, 32_896, 65_535]], np.uint16)), kind)
    assert [pixel[0] for pixel in pixels(to_rgb(grey))[0]] == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(kind: type):
    with pytest.raises(ValueError, match=r"32-bit pixels; expected .*8 or 16"):
        to_rgb(stored(Image.fromarray(np.array([[0, 1]], kind)), "TIFF"))


def tiff(bits: int, white_is: int, data: bytes, width: int, sample_format: int = 1) -> bytes:
    """One row of greys, as the format's definition has it; Pillow writes neither 12 bits nor white at 0."""
    tags = {
        256: width,
        257: 1,
        258: bits,
        259: 1,
        262: white_is,
        273: 8,
        277: 1,
        278: 1,
        279: len(data),
        339: sample_format,
    }
    rows = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + rows + bytes(4)


@pytest.mark.parametrize(
    ("content", "greys"),
    [
        (tiff(12, 1, bytes((0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00)), 4), [0, 128, 255, 0]),
        (tiff(16, 1, struct.pack("<4H", 0, 32_896, 65_535, 257), 4), [0, 128, 255, 1]),
        (tiff(16, 0, struct.pack("<4H", 0, 32_639, 65_535, 257), 4), [255, 128, 0, 254]),
    ],
)
def test_a_tiffs_greys_are_scaled_by_their_bits_and_begin_where_it_says(content: bytes, greys: list[int]):
    assert [pixel[0] for pixel in pixels(decode(content))[0]] == greys


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_pixels_are_refused_as_what_they_are(bits: int):
    with pytest.raises(DamagedImage, match=f"it has signed {bits}-bit pixels; expected unsigned ones of 8 or 16"):
        decode(tiff(bits, 1, bytes(4 * bits // 8), 4, sample_format=2))


def test_a_clear_16_bit_grey_is_white():
    grey = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    assert [pixel[0] for pixel in pixels(to_rgb(stored(grey, transparency=2048)))[0]] == [0, 255, 16]


def test_a_postscript_program_is_no_image_whatever_it_calls_itself():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "EPS")
    with pytest.raises(DamagedImage, match="not an image: begins with b'%!PS-Adobe"):
        decode(file.getvalue())


def test_memory_that_runs_out_in_a_decoder_is_no_damage(monkeypatch: pytest.MonkeyPatch):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: bytearray(1 << 62))
    with pytest.raises(ValueError, match=r"memory ran out while an image of \d+ bytes was decoded; lower"):
        decode(file.getvalue())
