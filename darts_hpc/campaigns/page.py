"""A campaign's report as one HTML page that stands alone."""

from collections.abc import Sequence
from html import escape

from darts_hpc.campaigns.tables import (
    PROTOCOL,
    Campaign,
    cost_table,
    open_words,
    ranking_table,
    result_table,
)
from darts_hpc.reporting.charts import line_chart, points_chart, scatter_chart
from darts_hpc.reporting.groups import Group
from darts_hpc.reporting.page import CHARTS, alpha_section, cell_section, curves, page, shared_and_own, table
from darts_hpc.run.reader import RecordedRun
from darts_hpc.space.genotypes import Genotype


def to_html(campaign: Campaign) -> str:
    """Return the page."""
    missing = open_words(campaign).strip("*")
    parts = [
        f"<h1>{escape(campaign.name)}</h1>",
        f'<p class="muted">{escape(PROTOCOL)}</p>',
        f'<p class="warning">{escape(missing)}</p>' if missing else "",
        table(*result_table(campaign)),
        '<p class="note">Parameters without the auxiliary head; multiply-adds of one image. Search: all searches of '
        "the family and their ranking. Training and memory: of one full training, mean.</p>",
        points_chart("Test accuracy of every training, in %", [(row.title, row.accuracies) for row in campaign.rows]),
        _ranking(campaign),
        _costs(campaign),
        _cells(campaign),
        _epochs(campaign),
        _alphas(campaign),
        _failures(campaign),
        _repeat(campaign),
    ]
    return page(f"{campaign.name}: DARTS campaign", "\n".join(part for part in parts if part))


def _ranking(campaign: Campaign) -> str:
    points = [
        (ranked.held_out, ranked.final, ranked.family, f"{ranked.cell}: {ranked.held_out:.2f} %, {ranked.final:.2f} %")
        for ranked in campaign.ranking
        if ranked.held_out is not None and ranked.final is not None
    ]
    chart = scatter_chart("Final test accuracy in %", "accuracy on the held-out images, in %", points)
    words = f"<p>{escape(str(campaign.correlation))}.</p>" if campaign.correlation is not None else ""
    charts = f'<h3>The ranking against the final accuracy</h3>{words}<div class="charts">{chart}</div>' if chart else ""
    return f"<section><h2>Ranking</h2>{table(*ranking_table(campaign))}{charts}</section>"


def _costs(campaign: Campaign) -> str:
    return f"<section><h2>Costs</h2>{table(*cost_table(campaign))}</section>"


def _cells(campaign: Campaign) -> str:
    """Show the cells of the table open, and every other found cell folded."""
    shown = {row.cell: row.runs for row in campaign.rows if row.cell and row.runs}
    parts = ["<section><h2>Cells</h2>"]
    drawn: set[Genotype] = set()
    for name, runs in shown.items():
        genotype = runs[0].genotype
        if genotype is not None:
            parts.append(f"<h3>{escape(name)}</h3>{_pictures(genotype, runs)}")
            drawn.add(genotype)
    for run in [*campaign.searches, *campaign.selections]:
        if run.genotype is not None and run.genotype not in drawn and run.finished:
            drawn.add(run.genotype)
            name = run.name.removeprefix("search-").removeprefix("select-")
            parts.append(f"<details><summary>{escape(name)}</summary>{_pictures(run.genotype, [run])}</details>")
    return "".join(parts) + "</section>"


def _pictures(genotype: Genotype, runs: Sequence[RecordedRun]) -> str:
    return cell_section(genotype, runs, alone=True).replace("<h3>The cell</h3>", "", 1)


def _epochs(campaign: Campaign) -> str:
    trainings = list({run.name: run for row in campaign.rows for run in row.runs}.values())
    parts = ["<section><h2>Over the epochs</h2>"]
    for title, runs in (
        ("Searches", campaign.searches),
        ("Short trainings", campaign.selections),
        ("Full trainings", trainings),
    ):
        if runs:
            charts = "".join(
                line_chart(name, curves(Group(title, list(runs)), names)) for name, names in CHARTS.items()
            )
            parts.append(f'<h3>{title}</h3><p class="muted">One line per run.</p><div class="charts">{charts}</div>')
    return "".join(parts) + "</section>" if len(parts) > 1 else ""


def _alphas(campaign: Campaign) -> str:
    searches = [run for run in campaign.searches if any("alphas/normal" in record for record in run.epochs)]
    chosen = {f"search-{ranked.cell}" for ranked in campaign.ranking if ranked.chosen}
    sections = [alpha_section(run, is_open=run.name in chosen) for run in searches]
    return f"<section><h2>Alphas</h2>{''.join(sections)}</section>" if sections else ""


def _failures(campaign: Campaign) -> str:
    parts = [
        f"<h3>{escape(name)}</h3><pre>{escape(chr(10).join(lines)) or '(it printed nothing)'}</pre>"
        for name, lines in campaign.failed.items()
    ]
    return f"<section><h2>Failed jobs</h2>{''.join(parts)}</section>" if parts else ""


def _repeat(campaign: Campaign) -> str:
    parts = ["<section><h2>To repeat it</h2>"]
    if campaign.about.get("command"):
        parts.append(f'<p class="muted">The whole campaign</p><pre>{escape(str(campaign.about["command"]))}</pre>')
    for title, commands in campaign.commands.items():
        text = escape("\n".join(commands))
        parts.append(f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>")
    for name, text in campaign.files.items():
        parts.append(f"<details><summary>{escape(name)}</summary><pre>{escape(text.strip())}</pre></details>")
    runs = [*campaign.searches, *campaign.selections, *(run for row in campaign.rows for run in row.runs)]
    machines = shared_and_own({run.name: run.environment for run in runs if run.environment}) if runs else ""
    if machines:
        parts.append(f"<details><summary>Versions and machines</summary>{machines}</details>")
    return "".join(parts) + "</section>"
