"""Flags of the report."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Compare runs: one table, learning curves and cells, as HTML, Markdown and JSON."""

    runs: tuple[Path, ...]
    """Run folders."""
    output: Path = Path("report")
    """Folder the report goes to."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no run to report on: expected one run folder or more, as in runs/*")
