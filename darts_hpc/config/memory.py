"""The flags of the memory check."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

MemoryCheck = Literal["auto", "warn", "off"]
UNITS = {"": 1, "B": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for power, prefix in enumerate("KMGT", start=1)
    for binary in ("", "i")
}
"""Bytes by unit: GB is 10**9, GiB is 2**30."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What a step may take."""

    memory_check: MemoryCheck = "auto"
    """Before the first step: auto recomputes cells in backward where only that fits, and refuses a step that does not
    fit; warn tells and runs; off runs."""
    memory_limit: str | None = None
    """Memory that a step of one process may take, such as 10GiB; what is free, less a margin, when left out."""

    def __post_init__(self) -> None:
        if self.memory_check not in get_args(MemoryCheck):
            raise ValueError(
                f"--memory_check {self.memory_check!r}: expected one of {', '.join(get_args(MemoryCheck))}"
            )
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)


def parse_bytes(text: str) -> int:
    """Return the bytes that a size such as 10GiB, 1.5 GB or 800MB means. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    units = {name.lower(): size for name, size in UNITS.items()}
    size = int(float(match[1]) * units[match[2].lower()]) if match and match[2].lower() in units else 0
    if size <= 0:
        raise ValueError(f"--memory_limit {text!r}: expected a size above 0, such as 10GiB or 800MB")
    return size
