"""Reports as HTML pages that stand alone: no script, no request, light or dark as the reader's system is.

The words are in templates/, which escape whatever they are given; here is what they are given.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darts_hpc.config.flags import spell
from darts_hpc.pictures.alphas import edge_names, edge_operations, kept_edges, weights_label
from darts_hpc.pictures.cells import CELLS, INSTALL_HINT, cell_svgs, describe_cell
from darts_hpc.pictures.heat_map import FULL
from darts_hpc.pictures.theme import DASHED, PALETTE, operation_color
from darts_hpc.pictures.typeset import html
from darts_hpc.reporting.charts import Chart, Curve, Evolution, edge_chart, evolution_figure, line_chart
from darts_hpc.reporting.groups import Group
from darts_hpc.reporting.summary import BEFORE_FIRST_EPOCH, BEST, BEST_NOTE, FINAL, group_table, run_table
from darts_hpc.run.reader import RecordedRun
from darts_hpc.space.genotypes import Genotype

if TYPE_CHECKING:
    import jinja2

CHARTS = {
    "accuracy": (
        "Accuracy in %",
        {"train/accuracy": "train", "valid/accuracy": "validation", "test/accuracy": "test"},
    ),
    "loss": ("Loss", {"train/loss": "train", "valid/loss": "validation", "test/loss": "test"}),
    "entropy": (
        "Entropy of the operations on an edge, in nats",
        {"entropy/normal": "normal cell", "entropy/reduce": "reduction cell"},
    ),
    "skip_connections": ("Skip connections in the normal cell", {"skip_connects": "skip connections"}),
    "eigenvalue": (
        "Largest eigenvalue of the validation loss in alpha",
        {"eigenvalue": "eigenvalue", "eigenvalue_average": "its average over 5"},
    ),
    "eigenvalue_rise": (
        "Rise of the eigenvalue's average over four evaluations, as a factor",
        {"eigenvalue_rise": "rise", "eigenvalue_factor": "ends the search"},
    ),
    "perturbation": (
        "Training loss before and after an adversary perturbs the operations' weights",
        {"perturbation/loss_before": "before", "perturbation/loss_after": "after"},
    ),
    "auxiliary_share": ("Share of the auxiliary skip", {"schedule/auxiliary_share": "share"}),
}
"""Charts over epochs: name of its file -> title, and record name -> label."""
CURVE_COLORS = {"train": "second", "reduction cell": "third", "before": "second", "its average over 5": "second"}
CURVE_COLORS |= {"ends the search": "second"}


@dataclass(frozen=True)
class CellView:
    """Both cells of a genotype. pictures: title, SVG for a wide page, SVG for a phone, lines of text."""

    title: str
    genotype: Genotype
    notes: list[str]
    pictures: list[tuple[str, str, str, list[str]]]


@dataclass(frozen=True)
class AlphaView:
    """How the alphas of a search evolved. cells: title, note on what is left out, evolution if any epoch has one."""

    run: RecordedRun
    cells: list[tuple[str, str, Evolution | None]]

    @property
    def weights(self) -> str:
        """What is drawn, in terms of alpha."""
        return weights_label(self.run.space)

    @property
    def operations(self) -> list[str]:
        """All operations of both cells, for a key."""
        lists = [names for _, _, evolution in self.cells if evolution for names in evolution.operations]
        return list(dict.fromkeys(name for names in lists for name in names))

    def figures(self) -> dict[str, Chart]:
        """Return one figure per cell, for a paper, by the name of its file."""
        return {
            f"alphas-{self.run.name}-{title.split()[0].lower()}": evolution_figure(title, evolution)
            for title, _, evolution in self.cells
            if evolution
        }


@dataclass(frozen=True)
class GroupView:
    """What the page shows of runs of one configuration."""

    group: Group
    charts: dict[str, Chart]
    cells: list[CellView]
    alphas: list[AlphaView]

    @classmethod
    def of(cls, group: Group) -> "GroupView":
        """Draw the charts of a group."""
        owners: dict[Genotype, list[RecordedRun]] = {}
        for run in group.runs:
            if run.genotype is not None:
                owners.setdefault(run.genotype, []).append(run)
        cells = [cell_view(cell, runs, alone=len(group.runs) == len(runs)) for cell, runs in owners.items()]
        return cls(group, epoch_charts(group), cells, alpha_views(group.runs))

    def figures(self) -> dict[str, Chart]:
        """Return its figures by the name of their file."""
        return self.charts | {name: chart for view in self.alphas for name, chart in view.figures().items()}


def to_html(views: Sequence[GroupView]) -> str:
    """Return the page of a report over runs."""
    groups = [view.group for view in views]
    return render(
        "report.html.j2", views=views, table=group_table(groups), run_table=run_table, best_note=BEST_NOTE,
        num_runs=sum(len(group.runs) for group in groups), decision_table=decision_table,
        edge_weight_table=edge_weight_table,
        facts=lambda group, name: shared_and_own({run.name: getattr(run, name) for run in group.runs}),
    )  # fmt: skip


def report_figures(views: Sequence[GroupView]) -> dict[str, Chart]:
    """Return every figure of a report by the name of its file."""
    figures = {}
    for number, view in enumerate(views, start=1):
        prefix = f"{number}-" if len(views) > 1 else ""
        figures |= {prefix + name: chart for name, chart in view.figures().items()}
    return figures


def render(template: str, **content: object) -> str:
    """Return a page by its template, which escapes the content."""
    return _templates().get_template(template).render(content)


@functools.cache
def _templates() -> "jinja2.Environment":
    import jinja2
    from markupsafe import Markup, escape

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("darts_hpc.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"typeset": lambda text: Markup(html(str(escape(text)))), "edge_chart": edge_chart}
    templates.filters["color"] = operation_color
    templates.globals |= {
        "palette": PALETTE,
        "dashed": DASHED,
        "install_hint": INSTALL_HINT,
        "column_classes": {FINAL: "headline", BEST: "aside"},
        "full": FULL,
    }
    return templates


def epoch_charts(group: Group) -> dict[str, Chart]:
    """Return the charts over epochs that a group's records have numbers for, by the name of their file."""
    charts = {name: line_chart(title, _curves(group, names)) for name, (title, names) in CHARTS.items()}
    return {name: chart for name, chart in charts.items() if chart is not None}


def _curves(group: Group, names: Mapping[str, str]) -> list[Curve]:
    """Return one curve per run and name of a record: record name -> label."""
    found = []
    for name, label in names.items():
        for run in group.runs:
            points = [(record["epoch"] + 1, record[name]) for record in run.epochs if name in record]
            if name == "eigenvalue_factor":  # the limit beside what is measured
                limit = run.config.get(name)
                risen = [record["epoch"] + 1 for record in run.epochs if "eigenvalue_rise" in record]
                points = [(epoch, limit) for epoch in risen if isinstance(limit, int | float)]
            if points:
                found.append(Curve(label, points, CURVE_COLORS.get(label, "accent"), f"{label}, {run.name}"))
    return found


def cell_view(genotype: Genotype, owners: Sequence[RecordedRun], alone: bool) -> CellView:
    """Draw both cells of some runs. alone: whether no other cell stands beside it."""
    title = "The cell" + ("" if alone else " of " + ", ".join(run.name for run in owners))
    title += BEFORE_FIRST_EPOCH if any(run.is_before_first_epoch for run in owners) else ""
    results = [run.result for run in owners if run.result]
    found = [result[name] for name in ("early_stop", "collapse") for result in results if name in result]
    notes = dict.fromkeys(f"{note[:1].upper()}{note[1:]}" for note in found)
    pictures = [(name, *cell_svgs(genotype, cell), describe_cell(genotype, cell)) for cell, name in CELLS.items()]
    return CellView(title, genotype, list(notes), pictures)


def alpha_views(runs: Sequence[RecordedRun]) -> list[AlphaView]:
    """Return how the alphas of each search among the runs evolved."""
    searches = [run for run in runs if any("alphas/normal" in record for record in run.epochs)]
    return [AlphaView(run, [(title, *_evolution(run, cell)) for cell, title in CELLS.items()]) for run in searches]


def _evolution(run: RecordedRun, cell: str) -> tuple[str, Evolution | None]:
    recorded = [record for record in run.epochs if f"alphas/{cell}" in record]
    records = [record for record in recorded if _is_finite(record[f"alphas/{cell}"])]
    lost = [str(record["epoch"] + 1) for record in recorded if record not in records]
    note = f"Not finite, and left out: epoch {', '.join(lost)}." if lost else ""
    if not records:
        return note, None
    tables = [record[f"alphas/{cell}"] for record in records]
    edges, operations = len(tables[0]), len(tables[0][0])
    return note, Evolution(
        epochs=[record["epoch"] + 1 for record in records],
        weights=tables,
        edges=edge_names(edges),
        operations=edge_operations(run.space, cell, edges, operations),
        kept=kept_edges(run.genotype, cell) if run.genotype else {},
    )


def edge_weight_table(run: RecordedRun) -> tuple[list[str], list[list[str]]] | None:
    """Return header and rows of the edges' weights after the last epoch, where they have some."""
    names = [f"edge_weights/{cell}" for cell in CELLS]
    records = [record for record in run.epochs if all(name in record for name in names)]
    if not records:
        return None
    cells = [["-" if w is None else f"{w:.3f}" for w in records[-1][name]] for name in names]
    rows = [list(row) for row in zip(edge_names(max(map(len, cells))), *cells, strict=False)]
    return ["edge", *(title.lower() for title in CELLS.values())], rows


def decision_table(run: RecordedRun) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what a selection by perturbation decided, edge by edge, and on which numbers."""
    rows = []
    for record in run.decisions:
        names = edge_names(max(record["edges"]) + 1)
        edges = ", ".join(names[edge] for edge in record["edges"])
        scores = [" ".join(f"{value:.4g}" for value in record[f"{name}_without"]) for name in ("accuracy", "loss")]
        rows.append([str(record["epoch"] + 1), record["cell"], edges, record["operation"] or "kept", *scores])
    return ["epoch", "cell", "edge", "decision", "accuracy without each, in %", "loss without each"], rows


def shared_and_own(facts: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """List what all runs agree on once, under "", then what is each run's own, under its name."""
    first, *others = facts.values()
    shared = {key for key, value in first.items() if all(other.get(key) == value for other in others)}
    listings = {"": {key: first[key] for key in first if key in shared}}
    listings |= {name: {key: value for key, value in own.items() if key not in shared} for name, own in facts.items()}
    return {
        name: "\n".join(f"{key}: {spell(value)}" for key, value in values.items())
        for name, values in listings.items()
        if values
    }


def _is_finite(table: Sequence[Sequence[float]]) -> bool:
    return all(math.isfinite(value) for row in table for value in row)
