"""Compare runs: one HTML page, Markdown and JSON, and the table on the terminal."""

import shlex
from pathlib import Path

from darts_hpc.config.report import ReportConfig
from darts_hpc.reporting.groups import group_runs
from darts_hpc.reporting.page import to_html
from darts_hpc.reporting.summary import BEFORE_FIRST_EPOCH, group_table, to_json, to_markdown, to_text
from darts_hpc.run.reader import read_run


def main(cfg: ReportConfig) -> None:
    """Read the runs, write the report, and say what came out and where to look."""
    runs = [read_run(folder) for folder in dict.fromkeys(folder.resolve() for folder in cfg.runs)]
    groups = group_runs(runs)
    pages = {"report.html": to_html(groups), "report.md": to_markdown(groups), "report.json": to_json(groups)}
    try:
        cfg.output.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (cfg.output / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--output {cfg.output}: the report can't be written there: {error.strerror}") from None

    print(to_text(*group_table(groups)))
    for run in runs:
        print(f"\n{run.name} ({run.status})")
        if run.accuracy is not None:
            print(f"  {'final' if run.finished else 'so far'} {run.accuracy_name}: {run.accuracy:.2f} %")
        if run.genotype is not None:
            print(f"  {run.genotype}{BEFORE_FIRST_EPOCH if run.is_before_first_epoch else ''}")
    print(f"\nreport: {(cfg.output / 'report.html').resolve()}")
    print(f"curves: tensorboard --logdir {shlex.quote(str(common_folder(runs[0].folder)))}")


def common_folder(run: Path) -> Path:
    """Return the folder of runs that this one lies in, as seen from here where it is below."""
    here, folder = Path.cwd(), run.parent
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
