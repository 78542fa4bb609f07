"""Compare runs: one HTML page, its tables as Markdown, LaTeX, CSV and JSON, its figures, and a table to print."""

import shlex
from pathlib import Path

from darts_hpc.config.report import ReportConfig
from darts_hpc.reporting.files import write_report
from darts_hpc.reporting.groups import group_runs
from darts_hpc.reporting.page import GroupView, report_figures, to_html
from darts_hpc.reporting.summary import BEFORE_FIRST_EPOCH, group_table, to_csv, to_json, to_latex, to_markdown
from darts_hpc.reporting.table_formats import blocks
from darts_hpc.run.reader import read_run
from darts_hpc.user_files import resolved


def main(cfg: ReportConfig) -> None:
    """Read the runs, write the report, and say what came out and where to look."""
    runs = [read_run(folder) for folder in dict.fromkeys(resolved(folder) for folder in cfg.runs)]
    groups = group_runs(runs)
    views = [GroupView.of(group) for group in groups]
    forms = {
        "html": to_html(views),
        "md": to_markdown(groups),
        "json": to_json(groups),
        "tex": to_latex(groups),
        "csv": to_csv(groups),
    }
    try:
        write_report(cfg.output, forms, report_figures(views))
    except OSError as error:
        raise ValueError(f"--output {cfg.output}: the report can't be written there: {error.strerror}") from None

    print(blocks(*group_table(groups)))
    for run in runs:
        print(f"\n{run.name} ({run.status})")
        if run.accuracy is not None:
            print(f"  {'final' if run.finished else 'so far'} {run.accuracy_name}: {run.accuracy:.2f} %")
        if run.genotype is not None:
            print(f"  {run.genotype}{BEFORE_FIRST_EPOCH if run.is_before_first_epoch else ''}")
    print(f"\nreport: {resolved(cfg.output / 'report.html')} (for papers: report.tex, report.csv, figures/)")
    print(f"curves: tensorboard --logdir {shlex.quote(str(common_folder(runs[0].folder)))}")


def common_folder(run: Path) -> Path:
    """Return the folder of runs that this one lies in, as seen from here where it is below."""
    here, folder = Path.cwd(), run.parent
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
