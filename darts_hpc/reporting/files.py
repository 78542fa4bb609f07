"""The files of a report."""

import re
from collections.abc import Mapping
from pathlib import Path

from darts_hpc.reporting.charts import Chart
from darts_hpc.user_files import exists, read_text

WRITTEN = "written.txt"
"""In figures/: the names of those that the last report wrote, of which the next one removes what it does not have."""


def write_report(folder: Path, forms: Mapping[str, str], figures: Mapping[str, Chart]) -> None:
    """Write report.<suffix> for each form, and each figure as figures/<name>.svg and .pdf.

    Raises OSError where they can't be written.
    """
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for suffix, text in forms.items():
        (folder / f"report.{suffix}").write_text(text, encoding="utf-8")
    files: dict[str, bytes] = {}
    for name, chart in figures.items():
        if chart.figure is not None:
            files |= {f"{name}.svg": chart.svg.encode(), f"{name}.pdf": chart.pdf}
    for name, content in files.items():
        (pictures / name).write_bytes(content)
    for name in _written_before(pictures) - files.keys():
        (pictures / name).unlink(missing_ok=True)
    (pictures / WRITTEN).write_text("".join(f"{name}\n" for name in files), encoding="utf-8")


def _written_before(pictures: Path) -> set[str]:
    path = pictures / WRITTEN
    names = read_text(path).splitlines() if exists(path) else []
    return {name for name in names if re.fullmatch(r"[^/]+\.(svg|pdf)", name)}
