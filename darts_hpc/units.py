"""Durations, sizes and counts as people write them."""

import math
import re

UNITS = {"": 1, "B": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for power, prefix in enumerate("KMGT", start=1)
    for binary in ("", "i")
}
"""Bytes by unit: GB is 10**9, GiB is 2**30."""

MAX_BYTES = 2**50
"""A larger size is a slip: no machine has so much."""


def counted(number: object, noun: str) -> str:
    """Return a count with its noun: 1 epoch, 2 epochs."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def readable_duration(seconds: float) -> str:
    """Spell a duration with its two largest units, such as 1 h 05 min; "unknown" for what is not finite."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def readable_bytes(num_bytes: float) -> str:
    """Spell a size in GiB, MiB or KiB; "unknown" for what is not finite."""
    if not math.isfinite(num_bytes):
        return "unknown"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if abs(num_bytes) >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1024:.0f} KiB"


def parse_bytes(text: str) -> int:
    """Return the bytes that a size such as 10GiB, 1.5 GB or 800MB means. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    units = {name.lower(): size for name, size in UNITS.items()}
    size = float(match[1]) * units[match[2].lower()] if match and match[2].lower() in units else 0.0
    if size < 1:
        raise ValueError(f"{text!r}: expected a size above 0, such as 10GiB or 800MB")
    if size > MAX_BYTES:
        raise ValueError(f"{text!r}: expected at most {MAX_BYTES // 2**40} TiB, such as 10GiB or 800MB")
    return int(size)
