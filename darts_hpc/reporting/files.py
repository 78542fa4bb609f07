"""The files of a report."""

from collections.abc import Mapping
from pathlib import Path

from darts_hpc.reporting.charts import Chart


def write_report(folder: Path, forms: Mapping[str, str], figures: Mapping[str, Chart]) -> None:
    """Write report.<suffix> for each form, and each figure as figures/<name>.svg and .pdf.

    Raises OSError where they can't be written.
    """
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for suffix, text in forms.items():
        (folder / f"report.{suffix}").write_text(text, encoding="utf-8")
    for name, chart in figures.items():
        if chart.figure is not None:
            (pictures / f"{name}.svg").write_text(chart.svg, encoding="utf-8")
            (pictures / f"{name}.pdf").write_bytes(chart.pdf)
