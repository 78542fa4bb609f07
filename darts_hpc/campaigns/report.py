"""From a campaign's folder to what its report says, and to the report's files."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from darts_hpc.campaigns import comparison_tables
from darts_hpc.campaigns.compare import compare
from darts_hpc.campaigns.families import families
from darts_hpc.campaigns.page import CampaignView, to_html
from darts_hpc.campaigns.plan import PRESETS, STAGES, Job
from darts_hpc.campaigns.ranking import best_cells, selection_accuracies
from darts_hpc.campaigns.state import JobState, last_lines
from darts_hpc.campaigns.tables import Campaign, Ranked, Row, to_csv, to_json, to_latex, to_markdown, to_terminal
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.reporting.files import write_report as write_files
from darts_hpc.run.reader import RecordedRun, read_run
from darts_hpc.user_files import exists, read_json, read_text


def read_campaign(cfg: CampaignConfig, folder: Path, states: Sequence[JobState]) -> Campaign:
    """Read the run folders of every job that has begun."""
    runs = {each.job.name: read_run(each.job.folder(folder)) for each in states if each.progress is not None}
    best = best_cells(cfg, folder, states)
    rows = _rows(cfg, states, runs, best)
    jobs = [each.job for each in states]
    searches = list(dict.fromkeys(family.preset for family in families(cfg).values() if family.preset))
    presets = ["campaign.yaml", *searches, PRESETS["train"], PRESETS["train_imagenet"]]
    presets = [name for name in presets if exists(folder / name)]
    return Campaign(
        name=folder.name.removeprefix("campaign-"),
        about=read_json(folder / "about.json"),
        rows=rows,
        ranking=_ranking(cfg, folder, states, runs, best),
        searches=[runs[job.name] for job in jobs if job.stage == "search" and job.name in runs],
        selections=[runs[job.name] for job in jobs if job.stage == "select" and job.name in runs],
        stages=_stages(states),
        failed={e.job.name: last_lines(folder, e.job, 20) for e in states if e.state == "failed"},
        num_open=sum(each.state in ("running", "ready", "waiting") for each in states),
        num_blocked=sum(each.state == "blocked" for each in states),
        files={name: read_text(folder / name) for name in presets},
        comparison=compare(cfg, states, runs, best),
        commands={
            row.title: _commands(folder, jobs, {run.name for run in row.runs}, row.cell) for row in rows if row.runs
        },
    )


def write_report(cfg: CampaignConfig, folder: Path, states: Sequence[JobState]) -> str:
    """Write the report in every form; return the table and where they are, for the terminal."""
    campaign = read_campaign(cfg, folder, states)
    output = folder / "report"
    view = CampaignView.of(campaign)
    forms = {
        "html": to_html(campaign, view),
        "md": to_markdown(campaign),
        "json": to_json(campaign),
        "tex": to_latex(campaign),
        "csv": to_csv(campaign),
    }
    if campaign.comparison is not None:
        forms["methods.csv"] = comparison_tables.to_csv(campaign.comparison)
    try:
        write_files(output, forms, view.figures())
    except OSError as error:
        raise ValueError(f"{output}: the report can't be written there: {error.strerror}") from None
    lines = [to_terminal(campaign)]
    if campaign.correlation is not None:
        lines.append(f"ranking against final accuracy: {campaign.correlation}")
    return "\n".join([*lines, f"report: {output / 'report.html'}"])


def _rows(
    cfg: CampaignConfig, states: Sequence[JobState], runs: dict[str, RecordedRun], best: dict[str, str]
) -> list[Row]:
    rows, lost = [], {each.job.name for each in states if each.is_lost}

    def add(title: str, cell: str, names: list[str], seconds: float | None, found: bool = True) -> None:
        own = [runs[name] for name in names if name in runs]
        failed = sum(name in lost for name in names) if found else len(names)
        rows.append(
            Row(title=title, cell=cell, runs=own, num_planned=len(names), num_failed=failed, search_seconds=seconds)
        )

    for family in families(cfg).values():
        count = len(family.cells)
        seconds = sum(
            each.progress.seconds
            for each in states
            if each.job.cell in family.cells and each.job.stage in ("search", "select") and each.progress is not None
        )
        cell = best.get(family.name, "")
        names = [f"final-{cell}-seed{seed}" for seed in cfg.train.final_seeds]
        can_be_found = any(f"select-{each}" not in lost for each in family.cells)
        add(f"{family.title}, best of {count}" + (f": {cell}" if cell else ""), cell, names, seconds, can_be_found)
        if cfg.train.train_all and not cfg.search.variants:
            what = f"{family.title}, each of {count} searches"
            if family.is_random:
                what = "random cells" + (f" in {family.space}" if family.space else "")
            add(what, "", [f"final-{each}-seed{cfg.train.final_seeds[0]}" for each in family.cells], None)
    for cell in cfg.train.baselines:
        add(cell, cell, [f"final-{cell}-seed{seed}" for seed in cfg.train.baseline_seeds], None)
    for name, family in families(cfg).items():
        if cfg.train.imagenet_config and name in best and not family.is_random:
            cell = best[name]
            names = [f"imagenet-{cell}-seed{seed}" for seed in cfg.train.imagenet_seeds]
            add(f"ImageNet: {family.title}, {cell}", cell, names, None)
    return rows


def _ranking(
    cfg: CampaignConfig, folder: Path, states: Sequence[JobState], runs: dict[str, RecordedRun], best: dict[str, str]
) -> list[Ranked]:
    of_job = {each.job.name: each.state for each in states}
    ranking = []
    for name, accuracies in selection_accuracies(cfg, folder).items():
        family = families(cfg)[name]
        unranked = [cell for cell in family.cells if cell not in accuracies]
        for cell in [*accuracies, *unranked]:
            own = [runs.get(f"final-{cell}-seed{seed}") for seed in cfg.train.final_seeds]
            finals = [run.accuracy for run in own if run is not None and run.finished and run.accuracy is not None]
            ranking.append(
                Ranked(
                    family=family.title,
                    cell=cell,
                    held_out=accuracies.get(cell),
                    final=statistics.mean(finals) if finals else None,
                    chosen=best.get(name) == cell,
                    why_not=of_job[f"select-{cell}"],
                )
            )
    return ranking


def _stages(states: Sequence[JobState]) -> dict[str, tuple[int, int, float]]:
    stages = {}
    for stage in STAGES:
        own = [each for each in states if each.job.stage == stage]
        if own:
            seconds = sum(each.progress.device_seconds for each in own if each.progress is not None)
            stages[stage] = (sum(each.state == "finished" for each in own), len(own), seconds)
    return stages


def _commands(folder: Path, jobs: Sequence[Job], names: set[str], cell: str) -> list[str]:
    """Return the commands of a row's trainings, and before them those that found its cell."""
    found = [job for job in jobs if job.cell == cell and job.stage in ("search", "select")]
    return [job.repeat(folder) for job in [*found, *(job for job in jobs if job.name in names)]]
