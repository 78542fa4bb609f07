"""Durations and sizes in words, and sizes read back."""

import math

import pytest

from darts_hpc.units import parse_bytes, readable_bytes, readable_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (187, "3 min 07 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (86_399, "23 h 59 min"),
        (4 * 86_400 + 3 * 3600, "4 d 03 h"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str):
    assert readable_duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 KiB"), (3 * 2**10, "3 KiB"), (1.5 * 2**20, "1.5 MiB"), (3 * 2**30, "3.0 GiB"), (math.inf, "unknown")],
)
def test_a_size_has_the_unit_that_fits(num_bytes: float, text: str):
    assert readable_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("text", "size"), [("10GiB", 10 * 2**30), ("1.5 GB", 1_500_000_000), ("800mb", 800_000_000), ("4096", 4096)]
)
def test_sizes_are_read_in_decimal_and_binary_units(text: str, size: int):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "0", "-1GB", "1 parsec", "1e3MB"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(ValueError, match="expected a size above 0"):
        parse_bytes(text)
