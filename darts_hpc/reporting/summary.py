"""The report's numbers: as tables for people, as Markdown, LaTeX, CSV and JSON."""

import math
from collections.abc import Sequence
from typing import Any

from darts_hpc import strict_json
from darts_hpc.config.flags import spell
from darts_hpc.reporting.groups import Group, Statistic
from darts_hpc.reporting.table_formats import comma_separated, latex, markdown
from darts_hpc.run.reader import RecordedRun
from darts_hpc.units import readable_bytes, readable_duration

UNITS: dict[str, list[tuple[float, str]]] = {
    "percent": [(1, "%")],
    "plain": [(1, "")],
    "count": [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")],
}
READABLE = {"seconds": readable_duration, "bytes": readable_bytes}
COSTS = {
    "parameters": ("Parameters", "count"),
    "multiply_adds": ("Multiply-adds", "count"),
    "seconds": ("Time", "seconds"),
    "peak_memory_bytes": ("Peak memory", "bytes"),
}
FINAL = "Final accuracy"
BEST = "Best epoch (not the result)"
BEFORE_FIRST_EPOCH = " (before the first epoch)"
"""Stands beside a genotype that nothing has trained yet."""
BEST_NOTE = (
    "The final epoch is the result. The best epoch is chosen by the very images that evaluate it, so it flatters."
)


def show(value: float | Statistic | None, kind: str = "plain") -> str:
    """Spell a number, or mean ± standard deviation, in the unit that fits it; a dash for None."""
    if value is None:
        return "-"
    statistic = value if isinstance(value, Statistic) else Statistic(value, None, 1)
    if not math.isfinite(statistic.mean):
        return "not finite"
    if kind in READABLE:
        spread = f" ± {READABLE[kind](statistic.std)}" if statistic.std else ""
        return READABLE[kind](statistic.mean) + spread
    divisor, unit = next((u for u in UNITS[kind] if abs(statistic.mean) >= u[0]), UNITS[kind][-1])
    digits = 0 if divisor == 1 and kind == "count" else 2
    text = f"{statistic.mean / divisor:.{digits}f}"
    if statistic.std is not None and (statistic.std > 0 or kind == "percent"):
        text += f" ± {statistic.std / divisor:.{digits}f}"
    return f"{text} {unit}".strip()


def group_table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: one row per configuration, over its finished runs."""
    header = ["Configuration", "Runs", FINAL, *(title for title, _ in COSTS.values())]
    rows = []
    for group in groups:
        numbers = group.statistics()
        unfinished = len(group.runs) - len(group.finished)
        runs = f"{len(group.finished)}" + (f" (+{unfinished} unfinished)" if unfinished else "")
        costs = [show(numbers.get(key), kind) for key, (_, kind) in COSTS.items()]
        name = group.accuracy_name
        rows.append([group.title, runs, _accuracy(name, numbers.get(name) if name else None), *costs])
    return header, rows


def run_table(group: Group) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: one row per run of the group."""
    header = ["Run", "Seed", "Status", FINAL, BEST, *(title for title, _ in COSTS.values())]
    return header, [_run_row(run) for run in group.runs]


def to_markdown(groups: Sequence[Group]) -> str:
    """Return the whole report as Markdown, without its pictures."""
    parts = [
        "# Report",
        markdown(*group_table(groups)),
        "Mean ± sample standard deviation over runs. " + BEST_NOTE,
    ]
    for group in groups:
        parts += [f"## {group.title}", markdown(*run_table(group))]
        cells = {
            str(run.genotype): run.name + (BEFORE_FIRST_EPOCH if run.is_before_first_epoch else "")
            for run in reversed(group.runs)
            if run.genotype
        }
        parts += [f"Cell of {name}:\n\n    {cell}" for cell, name in reversed(cells.items())]
        parts += [f"To repeat {run.name}:\n\n" + _indented(run.command) for run in group.runs if run.command]
    return "\n\n".join(parts) + "\n"


def to_json(groups: Sequence[Group]) -> str:
    """Return the whole report as JSON; what is not finite becomes null."""
    report = [
        {
            "title": group.title,
            "entry": group.entry,
            "headline": group.accuracy_name,
            "num_finished": len(group.finished),
            "statistics": {key: vars(value) for key, value in group.statistics().items()},
            "runs": [_run_facts(run) for run in group.runs],
        }
        for group in groups
    ]
    return strict_json.dumps({"configurations": report}, indent=1) + "\n"


def to_latex(groups: Sequence[Group]) -> str:
    """Return the tables for a paper: that of the configurations, then one per configuration."""
    tables = [latex(*group_table(groups), "Mean ± sample standard deviation over the finished runs.")]
    tables += [latex(*run_table(group), group.title) for group in groups]
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(tables) + "\n"


def to_csv(groups: Sequence[Group]) -> str:
    """Return one line per run with its numbers as they are: of its last epoch, and costs in counts, seconds, bytes."""
    runs = [(group.title, run) for group in groups for run in group.runs]
    names = list(dict.fromkeys(name for _, run in runs for name in run.numbers))
    header = ["configuration", "run", "entry", "seed", "finished", "accuracy_name", *names]
    rows = [
        [title, run.name, run.entry, run.config.get("seed"), run.finished, run.accuracy_name]
        + [run.numbers.get(name) for name in names]
        for title, run in runs
    ]
    return comma_separated(header, rows)


def _run_row(run: RecordedRun) -> list[str]:
    costs = [show(run.numbers.get(key), kind) for key, (_, kind) in COSTS.items()]
    final = _accuracy(run.accuracy_name, run.accuracy) + ("" if run.finished else ", so far")
    accuracies = [final, show(run.best, "percent")]
    return [run.name, spell(run.config.get("seed", "-")), run.status, *accuracies, *costs]


def _run_facts(run: RecordedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "status": run.status,
        "finished": run.finished,
        "seed": run.config.get("seed"),
        "last_epoch": run.numbers,
        "best_epoch_not_the_result": run.best,
        "genotype": run.genotype.to_dict() if run.genotype else None,
        "genotype_is_before_first_epoch": run.is_before_first_epoch,
        "config": run.config,
        "environment": run.environment,
        "command": run.command,
    }


def _accuracy(name: str | None, value: float | Statistic | None) -> str:
    return "-" if name is None or value is None else f"{show(value, 'percent')} ({name.partition('/')[0]})"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
