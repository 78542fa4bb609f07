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

    Raises OSError where they can't be written; the report before this one then stays as it was.
    """
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, bytes] = {}
    for name, chart in figures.items():
        if chart.figure is not None:
            drawn |= {f"{name}.svg": chart.svg.encode(), f"{name}.pdf": chart.pdf}
    stale = _written_before(pictures) - drawn.keys()
    files = {folder / f"report.{suffix}": text.encode() for suffix, text in forms.items()}
    files |= {pictures / name: content for name, content in drawn.items()}
    files[pictures / WRITTEN] = "".join(f"{name}\n" for name in drawn).encode()
    _write_together(files)
    for name in stale:
        (pictures / name).unlink(missing_ok=True)


def _write_together(files: Mapping[Path, bytes]) -> None:
    """Write files under other names, and rename them when there was room for all."""
    temporary = {path: path.with_name(f".{path.name}.writing") for path in files}
    try:
        for path, content in files.items():
            temporary[path].write_bytes(content)
        for path in files:
            temporary[path].replace(path)
    except OSError:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        raise


def _written_before(pictures: Path) -> set[str]:
    path = pictures / WRITTEN
    try:
        names = read_text(path).splitlines() if exists(path) else []
    except (OSError, ValueError):  # then an old picture stays
        names = []
    return {name for name in names if re.fullmatch(r"[^/]+\.(svg|pdf)", name)}
