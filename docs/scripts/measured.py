"""Read what benchmarks measured, and write it as people read it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def read(name: str) -> dict[str, Any]:
    """Return a benchmark's result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table."""
    lines = [list(header), *(map(str, row) for row in rows)]
    spelled = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([spelled[0], "|" + "---|" * len(list(lines[0])), *spelled[1:]]) + "\n"


def gib(num_bytes: float) -> str:
    """Return a size as people read it."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def number(value: float) -> str:
    """Return a number with as many digits as say something."""
    return f"{value:.0e}" if 0 < value < 1e-3 else f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def on(result: dict[str, Any]) -> str:
    """Return where something was measured."""
    return f"{result['machine']}, torch {result['torch']}"
