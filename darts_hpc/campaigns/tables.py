"""A campaign's numbers: the table with mean ± std and n, the ranking, the costs; in every form but HTML."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_hpc import strict_json
from darts_hpc.campaigns import comparison_tables
from darts_hpc.campaigns.compare import Comparison
from darts_hpc.campaigns.conclusions import conclusions
from darts_hpc.campaigns.counts import Count
from darts_hpc.reporting.groups import Statistic
from darts_hpc.reporting.summary import COSTS, show
from darts_hpc.reporting.table_formats import aligned, comma_separated, latex, markdown
from darts_hpc.run.reader import RecordedRun

PROTOCOL = (
    "Every cell is trained from scratch for a few epochs on one part of the training images and ranked on the images "
    "held out of it; the test images play no part in the choice. What is chosen, or where methods are compared every "
    "cell, is then trained in full, and the last epoch's test accuracy is the result. Of a cell, mean ± sample "
    "standard deviation over n trainings."
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: full trainings that belong together.

    num_planned: trainings in the plan. num_failed: of them, those that will never be. search_seconds: what finding the
    cell took, ranking included.
    """

    title: str
    cell: str
    runs: list[RecordedRun]
    num_planned: int
    num_failed: int = 0
    search_seconds: float | None

    @property
    def count(self) -> Count:
        """The finished trainings, and those that failed."""
        return Count(len(self.finished), self.num_planned, self.num_failed)

    @property
    def finished(self) -> list[RecordedRun]:
        """The trainings that the numbers are about."""
        return [run for run in self.runs if run.finished]

    def statistic(self, name: str) -> Statistic | None:
        """Summarize a number over the finished trainings."""
        values = [run.numbers[name] for run in self.finished if name in run.numbers]
        return Statistic.of(values) if values else None

    @property
    def accuracy(self) -> Statistic | None:
        """Summarize the accuracy that its trainings are known by."""
        name = next((run.accuracy_name for run in self.finished if run.accuracy_name), None)
        return self.statistic(name) if name else None

    @property
    def accuracies(self) -> list[float]:
        """Final accuracy in percent of each finished training."""
        return [run.accuracy for run in self.finished if run.accuracy is not None]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A cell in the ranking of its family. held_out, final: accuracy in percent, final over its full trainings."""

    family: str
    cell: str
    held_out: float | None
    final: float | None
    chosen: bool
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """All that a report says.

    stages: name -> (jobs finished, jobs, seconds). failed: job -> its last lines. num_open: jobs still to be done.
    num_blocked: jobs that need a failed one.
    """

    name: str
    about: dict[str, Any]
    rows: list[Row]
    ranking: list[Ranked]
    searches: list[RecordedRun]
    selections: list[RecordedRun]
    stages: dict[str, tuple[int, int, float]]
    failed: dict[str, list[str]]
    num_open: int
    num_blocked: int = 0
    files: dict[str, str]
    commands: dict[str, list[str]]
    comparison: Comparison | None = None

    @property
    def correlation(self) -> "Correlation | None":
        """How well the ranking predicted the final accuracy, over every cell that has both numbers."""
        pairs = [(r.held_out, r.final) for r in self.ranking if r.held_out is not None and r.final is not None]
        return Correlation.of(pairs) if len(pairs) > 2 else None


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of n pairs; None where one side is constant."""

    spearman: float | None
    kendall: float | None
    n: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> "Correlation":
        """Correlate; ties share their mean rank (Spearman) and are discounted (Kendall's tau-b)."""
        xs, ys = zip(*pairs, strict=True)
        if len(set(xs)) == 1 or len(set(ys)) == 1:
            return cls(None, None, len(pairs))
        from scipy import stats

        spearman, kendall = stats.spearmanr(xs, ys), stats.kendalltau(xs, ys)
        return cls(float(spearman.statistic), float(kendall.statistic), len(pairs))  # pyright: ignore

    def __str__(self) -> str:
        if self.spearman is None or self.kendall is None:
            return f"no rank correlation over {self.n} cells: all of one side are equal"
        return f"Spearman {self.spearman:.2f}, Kendall {self.kendall:.2f} over {self.n} cells"


def result_table(campaign: Campaign) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table."""
    header = ["Cell", "n", "Test error", "Test accuracy", "Parameters", "Multiply-adds", "Search", "Training", "Memory"]
    return header, [_result_row(row) for row in campaign.rows]


def ranking_table(campaign: Campaign) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the ranking, best first within each family."""
    rows = [
        [
            ranked.family,
            ranked.cell,
            show(ranked.held_out, "percent") if ranked.held_out is not None else ranked.why_not or "-",
            show(ranked.final, "percent"),
            "best" if ranked.chosen else "",
        ]
        for ranked in campaign.ranking
    ]
    return ["Family", "Cell", "Held-out accuracy", "Final test accuracy (mean)", "Chosen"], rows


def cost_table(campaign: Campaign) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what each stage took."""
    rows = [
        [stage, f"{done} of {count}", f"{seconds / 3600:.2f}"]
        for stage, (done, count, seconds) in campaign.stages.items()
    ]
    total = sum(seconds for _, _, seconds in campaign.stages.values())
    return ["Stage", "Jobs finished", device_hours(campaign)], [*rows, ["all", "", f"{total / 3600:.2f}"]]


def device_hours(campaign: Campaign) -> str:
    """Return what an hour of a job is an hour of."""
    devices = {run.result["device"] for row in campaign.rows for run in row.finished if run.result}
    return "GPU hours" if devices and all(str(device).startswith("cuda") for device in devices) else "CPU job hours"


def to_terminal(campaign: Campaign) -> str:
    """Return the comparison of methods, or else the table, as text in the 80 columns of a terminal."""
    if campaign.comparison is not None and campaign.comparison.num_variants:
        table = aligned(*comparison_tables.terminal_table(campaign.comparison))
        return "\n".join([table, *map(textwrap.fill, conclusions(campaign.comparison))])
    header, rows = result_table(campaign)
    return aligned(header[:5], [row[:5] for row in rows])


def to_latex(campaign: Campaign) -> str:
    """Return the table and the ranking for a paper."""
    tables = []
    if (compared := campaign.comparison) is not None:
        tables += [
            latex(*comparison_tables.accuracy_table(compared), comparison_tables.ACCURACY_NOTE),
            latex(*comparison_tables.difference_table(compared), comparison_tables.DIFFERENCE_NOTE),
            latex(*comparison_tables.cost_table(compared, device_hours(campaign)), comparison_tables.COST_NOTE),
        ]
    tables += [
        latex(*result_table(campaign), f"{campaign.name}: mean ± sample standard deviation over n trainings."),
        latex(*ranking_table(campaign), f"{campaign.name}: the ranking on held-out images."),
    ]
    notes = ["needs \\usepackage{booktabs}", open_words(campaign)]
    return "".join(f"% {note}\n" for note in notes if note) + "\n\n".join(tables) + "\n"


def to_csv(campaign: Campaign) -> str:
    """Return one line per finished training, with its numbers as they are; method and space where methods compare."""
    outcomes = campaign.comparison.outcomes if campaign.comparison is not None else []
    families = {cell: outcome.family for outcome in outcomes for cell in outcome.family.cells}
    trainings: dict[str, tuple[str, RecordedRun]] = {}  # of a comparison, its best cells' stand in two rows
    for title, run in [
        *((comparison_tables.outcome_title(outcome), run) for outcome in outcomes for run in outcome.trainings),
        *((row.title, run) for row in campaign.rows for run in row.finished),
    ]:
        trainings.setdefault(run.name, (title, run))
    names = list(dict.fromkeys(name for _, run in trainings.values() for name in run.numbers))
    rows = []
    for title, run in trainings.values():
        cell = run.name.partition("-")[2].rpartition("-seed")[0]
        family = families.get(cell)
        of = [family.method, family.space] if family is not None else [None, None]
        rows.append([title, *of, cell, run.name, run.config.get("seed"), *(run.numbers.get(name) for name in names)])
    return comma_separated(["row", "method", "space", "cell", "run", "seed", *names], rows)


def to_markdown(campaign: Campaign) -> str:
    """Return the whole report as Markdown, without its pictures."""
    missing = open_words(campaign)
    parts = [f"# {campaign.name}", f"**{missing}**" if missing else "", PROTOCOL]
    if (compared := campaign.comparison) is not None:
        parts += ["## Methods", markdown(*comparison_tables.accuracy_table(compared)), comparison_tables.ACCURACY_NOTE]
        parts += [markdown(*comparison_tables.difference_table(compared)), comparison_tables.DIFFERENCE_NOTE]
        parts += ["\n".join(f"- {sentence}" for sentence in conclusions(compared))]
        costs = comparison_tables.cost_table(compared, device_hours(campaign))
        parts += [markdown(*costs), comparison_tables.COST_NOTE]
    parts += ["## Best cells", markdown(*result_table(campaign))]
    parts += ["## Ranking", markdown(*ranking_table(campaign))]
    if campaign.correlation is not None:
        parts.append(f"Ranking against final accuracy: {campaign.correlation}.")
    parts += ["## Costs", markdown(*cost_table(campaign)), "## Cells"]
    cells = {row.cell: str(run.genotype) for row in campaign.rows for run in row.runs if run.genotype and row.cell}
    parts += [f"{name}:\n\n    {cell}" for name, cell in cells.items()]
    parts.append("## To repeat a row")
    for title, commands in campaign.commands.items():
        parts.append(f"{title}:\n\n" + "\n".join(f"    {command}" for command in commands))
    for name, lines in campaign.failed.items():
        parts.append(f"## {name} failed\n\n" + "\n".join(f"    {line}" for line in lines))
    parts += [f"## {name}\n\n```yaml\n{text.strip()}\n```" for name, text in campaign.files.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(campaign: Campaign) -> str:
    """Return the whole report as JSON; what is not finite becomes null."""
    report = {
        "name": campaign.name,
        "about": campaign.about,
        "comparison": None if campaign.comparison is None else comparison_tables.to_facts(campaign.comparison),
        "rows": [_row_facts(row) for row in campaign.rows],
        "ranking": [vars(ranked) for ranked in campaign.ranking],
        "correlation": vars(campaign.correlation) if campaign.correlation is not None else None,
        "stages": {s: {"finished": d, "jobs": n, "seconds": t} for s, (d, n, t) in campaign.stages.items()},
        "failed": campaign.failed,
        "num_open": campaign.num_open,
        "num_blocked": campaign.num_blocked,
        "commands": campaign.commands,
    }
    return strict_json.dumps(report, indent=1) + "\n"


def open_words(campaign: Campaign) -> str:
    """Say what is still missing; empty when nothing is."""
    counts = {
        "to be done": campaign.num_open, "failed": len(campaign.failed), "blocked by those": campaign.num_blocked
    }  # fmt: skip
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    return f"Not complete; of the jobs: {', '.join(parts)}." if parts else ""


def _result_row(row: Row) -> list[str]:
    accuracy = row.accuracy
    error = Statistic(100 - accuracy.mean, accuracy.std, accuracy.n) if accuracy is not None else None
    costs = {key: show(row.statistic(key), kind) for key, (_, kind) in COSTS.items()}
    return [
        row.title,
        f"{row.count}",
        show(error, "percent"),
        show(accuracy, "percent"),
        costs["parameters"],
        costs["multiply_adds"],
        show(row.search_seconds, "seconds"),
        costs["seconds"],
        costs["peak_memory_bytes"],
    ]


def _row_facts(row: Row) -> Mapping[str, Any]:
    numbers = {key for run in row.finished for key in run.numbers}
    statistics = {key: row.statistic(key) for key in sorted(numbers)}
    return {
        "title": row.title,
        "cell": row.cell,
        "n": len(row.finished),
        "num_planned": row.num_planned,
        "num_failed": row.num_failed,
        "accuracies": {run.name: run.accuracy for run in row.finished},
        "statistics": {key: vars(value) for key, value in statistics.items() if value is not None},
        "search_seconds": row.search_seconds,
        "genotypes": {run.name: run.genotype.to_dict() for run in row.runs if run.genotype},
    }
