"""Flags of the report."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Compare runs: one table, learning curves and cells, as a page and as files for papers."""

    runs: tuple[Path, ...]
    """Run folders to compare, as in runs/*."""
    output: Path = Path("report")
    """Folder that report.html goes to, its tables as .md, .json, .tex and .csv, and its figures as SVG and PDF."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no run to report on: expected one run folder or more, as in runs/*")
