"""Compare runs: one HTML page, Markdown and JSON, and the table on the terminal: python -m darts_hpc.report RUN ..."""

from darts_hpc.config.cli import run_entry
from darts_hpc.config.report import ReportConfig


def main(cfg: ReportConfig) -> None:
    """Report."""
    from darts_hpc.commands import report

    report.main(cfg)


if __name__ == "__main__":
    run_entry(main, ReportConfig, imports_torch=False)
