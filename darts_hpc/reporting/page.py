"""The report as one HTML page that stands alone: no script, no request, light or dark as the reader's system is."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from darts_hpc.pictures.alphas import edge_names, kept_edges, operation_names
from darts_hpc.pictures.cells import CELLS, INSTALL_HINT, cell_svg, describe_cell, operation_color
from darts_hpc.pictures.heat_map import HeatMap
from darts_hpc.reporting.charts import DASHES, Curve, edge_chart, heat_map, line_chart
from darts_hpc.reporting.groups import Group, spell
from darts_hpc.reporting.summary import BEFORE_FIRST_EPOCH, BEST, BEST_NOTE, FINAL, group_table, run_table
from darts_hpc.run.reader import RecordedRun
from darts_hpc.space.genotypes import Genotype

CHARTS = {
    "Accuracy in %": {"train/accuracy": "train", "valid/accuracy": "validation", "test/accuracy": "test"},
    "Loss": {"train/loss": "train", "valid/loss": "validation", "test/loss": "test"},
    "Entropy of the operations on an edge, in nats": {
        "entropy/normal": "normal cell",
        "entropy/reduce": "reduction cell",
    },
    "Skip connections in the normal cell": {"skip_connects": "skip connections"},
    "Largest eigenvalue of the validation loss in alpha": {"eigenvalue": "eigenvalue"},
    "Training loss before and after an adversary perturbs the operations' weights": {
        "perturbation/loss_before": "before",
        "perturbation/loss_after": "after",
    },
    "Share of the auxiliary skip": {"schedule/auxiliary_share": "share"},
}
"""Charts over epochs: title -> record name -> label."""
COLORS = {"train": "second", "reduction cell": "third", "before": "second"}


def to_html(groups: Sequence[Group]) -> str:
    """Return the page."""
    num_runs = sum(len(group.runs) for group in groups)
    return page(
        "DARTS report",
        f'<h1>DARTS report</h1><p class="muted">{_count(num_runs, "run")} of {_count(len(groups), "configuration")}. '
        f"Mean ± sample standard deviation over the finished runs. {BEST_NOTE}</p>\n"
        + table(*group_table(groups))
        + "\n".join(_group(group) for group in groups),
    )


def page(title: str, body: str) -> str:
    """Return a whole page around its body."""
    style = resources.files("darts_hpc.reporting").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def _group(group: Group) -> str:
    parts = [f"<section><h2>{escape(group.title)}</h2>", table(*run_table(group))]
    charts = [line_chart(title, curves(group, names)) for title, names in CHARTS.items()]
    if any(charts):
        lines = '<p class="muted">One line per run.</p>' if len(group.runs) > 1 else ""
        parts.append(f'<h3>Over the epochs</h3>{lines}<div class="charts">{"".join(charts)}</div>')
    for genotype, owners in _cells(group):
        parts.append(cell_section(genotype, owners, alone=len(group.runs) == len(owners)))
    searches = [run for run in group.runs if any("alphas/normal" in record for record in run.epochs)]
    parts += [alpha_section(run, is_open=run is searches[0]) for run in searches]
    parts += [decision_section(run) for run in group.runs if run.decisions]
    parts.append(_repeat_section(group))
    return "\n".join(parts) + "</section>"


def curves(group: Group, names: Mapping[str, str]) -> list[Curve]:
    """Return one curve a run and name of a record: record name -> label."""
    found = []
    for name, label in names.items():
        for run in group.runs:
            points = [(record["epoch"] + 1, record[name]) for record in run.epochs if name in record]
            if points:
                found.append(Curve(label, points, COLORS.get(label, "accent"), f"{label}, {run.name}"))
    return found


def _cells(group: Group) -> list[tuple[Genotype, list[RecordedRun]]]:
    owners: dict[Genotype, list[RecordedRun]] = {}
    for run in group.runs:
        if run.genotype is not None:
            owners.setdefault(run.genotype, []).append(run)
    return list(owners.items())


def cell_section(genotype: Genotype, owners: Sequence[RecordedRun], alone: bool) -> str:
    """Return both cells as pictures and as text."""
    whose = "" if alone else " of " + ", ".join(run.name for run in owners)
    whose += BEFORE_FIRST_EPOCH if any(run.is_before_first_epoch for run in owners) else ""
    parts = [f"<h3>The cell{escape(whose)}</h3>"]
    said = dict.fromkeys(run.result["collapse"] for run in owners if run.result and "collapse" in run.result)
    parts += [f'<p class="muted">{escape(line)}</p>' for line in said]
    for cell, title in CELLS.items():
        text = f"<pre>{escape(chr(10).join(describe_cell(genotype, cell)))}</pre>"
        svg = cell_svg(genotype, cell)
        picture = f'<div class="cell">{svg}</div>' if svg else f'{text}<p class="note">{escape(INSTALL_HINT)}</p>'
        parts.append(f'<p class="muted">{title}</p>{picture}')
    lines = "\n\n".join(f"{title}\n" + "\n".join(describe_cell(genotype, cell)) for cell, title in CELLS.items())
    parts.append(
        f"<details><summary>As text</summary><pre>{escape(f'{genotype}')}</pre><pre>{escape(lines)}</pre></details>"
    )
    return "".join(parts)


def alpha_section(run: RecordedRun, is_open: bool) -> str:
    """Return how a search's alphas evolved, to be folded open."""
    parts = [
        '<p class="muted">softmax(alpha): how much of an edge each operation has. One small chart per edge, over the '
        "epochs; its strongest operation, <code>none</code> aside, is drawn bold and named with its final share. "
        "Blue frames mark the edges that the final cell keeps.</p>",
        _operation_keys(run.primitives),
    ]
    for cell, title in CELLS.items():
        recorded = [record for record in run.epochs if f"alphas/{cell}" in record]
        records = [record for record in recorded if _is_finite(record[f"alphas/{cell}"])]
        lost = [str(record["epoch"] + 1) for record in recorded if record not in records]
        note = f'<p class="note">Not finite, and left out: epoch {", ".join(lost)}.</p>' if lost else ""
        if not records:
            parts.append(f"<h3>{title}</h3>{note}" if note else "")
            continue
        tables = [record[f"alphas/{cell}"] for record in records]  # (epochs, edges, operations)
        epochs = [record["epoch"] + 1 for record in records]
        edges, operations = edge_names(len(tables[0])), operation_names(run.primitives, len(tables[0][0]))
        kept = kept_edges(run.genotype, cell) if run.genotype else {}
        high = max(max(max(row) for row in table) for table in (tables[0], tables[-1]))
        top = max(max(max(row) for row in table) for table in tables)
        charts = [
            edge_chart(name, epochs, [table[edge] for table in tables], operations, kept.get(name), top)
            for edge, name in enumerate(edges)
        ]
        shown = (0, -1)[: len(tables)]
        maps = [heat_map(HeatMap(f"Epoch {epochs[i]}", tables[i], edges, operations, high)) for i in shown]
        parts.append(f'<h3>{title}</h3>{note}<div class="edges">{"".join(charts)}</div>')
        numbers = f'<div class="charts">{"".join(maps)}</div>'
        parts.append(f"<details><summary>First and last epoch as numbers</summary>{numbers}</details>")
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>How the alphas of {escape(run.name)} evolved</summary>{''.join(parts)}</details>"


def decision_section(run: RecordedRun) -> str:
    """Return what a selection by perturbation decided, edge by edge, and on which numbers; to be folded open."""
    rows = []
    for record in run.decisions:
        names = edge_names(max(record["edges"]) + 1)
        edges = ", ".join(names[edge].translate({ord("{"): None, ord("}"): None}) for edge in record["edges"])
        scores = [" ".join(f"{value:.4g}" for value in record[f"{name}_without"]) for name in ("accuracy", "loss")]
        rows.append((str(record["epoch"] + 1), record["cell"], edges, record["operation"] or "kept", *scores))
    header = ("epoch", "cell", "edge", "decision", "accuracy without each, in %", "loss without each")
    summary = f"What the selection of {escape(run.name)} decided"
    return f"<details><summary>{summary}</summary>{table(header, rows)}</details>"


def _is_finite(table: Sequence[Sequence[float]]) -> bool:
    return all(math.isfinite(value) for row in table for value in row)


def _operation_keys(primitives: Sequence[str]) -> str:
    keys = []
    for name in primitives:
        dashed = " dashed" if name in DASHES else ""
        keys.append(f'<span class="key{dashed}" style="--line:var(--{operation_color(name)})">{escape(name)}</span>')
    return f'<div class="keys">{"".join(keys)}</div>'


def _repeat_section(group: Group) -> str:
    parts = ["<h3>To repeat it</h3>"]
    parts += [f"<pre>{escape(run.command)}</pre>" for run in group.runs if run.command]
    for title, facts in (("Configuration", "config"), ("Versions and machine", "environment")):
        blocks = shared_and_own({run.name: getattr(run, facts) for run in group.runs})
        parts.append(f"<details><summary>{title}</summary>{blocks}</details>" if blocks else "")
    return "".join(parts)


def shared_and_own(facts: Mapping[str, Mapping[str, object]]) -> str:
    """List what all runs agree on once, then what is each run's own."""
    first, *others = facts.values()
    shared = {key for key, value in first.items() if all(other.get(key) == value for other in others)}
    listings = {"": {key: first[key] for key in first if key in shared}}
    listings |= {name: {key: value for key, value in own.items() if key not in shared} for name, own in facts.items()}
    blocks = ""
    for name, values in listings.items():
        if values:
            text = "\n".join(f"{key}: {spell(value)}" for key, value in values.items())
            blocks += f'<p class="muted">{escape(name)}</p><pre>{escape(text)}</pre>'
    return blocks


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, which on a phone becomes one block per row."""
    classes = {FINAL: "headline", BEST: "aside"}
    head = "".join(f'<th class="{classes.get(name, "")}">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{classes.get(name, "")}" data-name="{escape(name)}">{escape(value)}</td>'
            for name, value in zip(header, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
