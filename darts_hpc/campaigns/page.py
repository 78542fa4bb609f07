"""A campaign's report as one HTML page that stands alone, and its figures."""

from dataclasses import dataclass
from typing import Any

from darts_hpc.campaigns import comparison_tables
from darts_hpc.campaigns.comparison_charts import comparison_charts
from darts_hpc.campaigns.conclusions import conclusions
from darts_hpc.campaigns.tables import (
    PROTOCOL,
    Campaign,
    cost_table,
    device_hours,
    open_words,
    ranking_table,
    result_table,
)
from darts_hpc.reporting.charts import Chart, points_chart, scatter_chart
from darts_hpc.reporting.groups import Group
from darts_hpc.reporting.page import (
    AlphaView,
    CellView,
    alpha_views,
    cell_view,
    epoch_charts,
    render,
    shared_and_own,
)
from darts_hpc.space.genotypes import Genotype

MANY_SEARCHES = 12
"""With more of them a page, else of megabytes, draws no alphas, no curves of every run, and the best cells only."""


@dataclass(frozen=True, kw_only=True)
class CampaignView:
    """What the page draws.

    comparison: charts by the name of their file. shown, others: cells of the table, and every other found cell.
    over_epochs: by stage.
    """

    comparison: dict[str, Chart]
    accuracies: Chart | None
    ranking: Chart | None
    shown: dict[str, CellView]
    others: dict[str, CellView]
    over_epochs: dict[str, dict[str, Chart]]
    alphas: list[AlphaView]

    @classmethod
    def of(cls, campaign: Campaign) -> "CampaignView":
        """Draw a campaign's charts and cells."""
        compared = campaign.comparison
        spaces = {o.family.title: o.family.space for o in compared.outcomes} if compared else {}
        points = [
            (r.held_out, r.final, spaces.get(r.family) or r.family, f"{r.cell}: {r.held_out:.2f} %, {r.final:.2f} %")
            for r in campaign.ranking
            if r.held_out is not None and r.final is not None
        ]
        rows = [(row.title, row.accuracies) for row in campaign.rows]
        shown, others = _cells(campaign)
        are_many = len(campaign.searches) > MANY_SEARCHES
        return cls(
            comparison=comparison_charts(compared) if compared else {},
            accuracies=None if compared else points_chart("Test accuracy of every training, in %", rows),
            ranking=scatter_chart("Final test accuracy in %", "accuracy on the held-out images, in %", points),
            shown=shown,
            others=others,
            over_epochs={} if are_many else _over_epochs(campaign),
            alphas=[] if are_many else alpha_views(campaign.searches),
        )

    def figures(self) -> dict[str, Chart]:
        """Return its figures by the name of their file."""
        figures: dict[str, Chart | None] = {**self.comparison, "accuracies": self.accuracies, "ranking": self.ranking}
        for title, charts in self.over_epochs.items():
            figures |= {f"{title.lower().replace(' ', '_')}-{name}": chart for name, chart in charts.items()}
        for view in self.alphas:
            figures |= view.figures()
        return {name: chart for name, chart in figures.items() if chart is not None}


def to_html(campaign: Campaign, view: CampaignView) -> str:
    """Return the page."""
    runs = [*campaign.searches, *campaign.selections, *(run for row in campaign.rows for run in row.runs)]
    machines = {run.name: run.environment for run in runs if run.environment}
    return render(
        "campaign.html.j2", campaign=campaign, view=view, protocol=PROTOCOL, missing=open_words(campaign),
        results=result_table(campaign), ranking=ranking_table(campaign), costs=cost_table(campaign),
        compared=_compared(campaign), chosen={f"search-{ranked.cell}" for ranked in campaign.ranking if ranked.chosen},
        machines=shared_and_own(machines) if machines else {},
    )  # fmt: skip


def _compared(campaign: Campaign) -> dict[str, Any] | None:
    """Return the tables and words of a comparison."""
    if (found := campaign.comparison) is None:
        return None
    return {
        "accuracies": comparison_tables.accuracy_table(found),
        "differences": comparison_tables.difference_table(found),
        "costs": comparison_tables.cost_table(found, device_hours(campaign)),
        "sentences": conclusions(found),
        "accuracy_note": comparison_tables.ACCURACY_NOTE,
        "difference_note": comparison_tables.DIFFERENCE_NOTE,
        "anytime_note": comparison_tables.ANYTIME_NOTE,
        "cost_note": comparison_tables.COST_NOTE,
    }


def _cells(campaign: Campaign) -> tuple[dict[str, CellView], dict[str, CellView]]:
    """Return the cells of the table, and every other found cell."""
    drawn: set[Genotype] = set()
    shown, others = {}, {}
    for row in campaign.rows:
        genotype = row.runs[0].genotype if row.cell and row.runs else None
        if genotype is not None:
            shown[row.cell] = cell_view(genotype, row.runs, alone=True)
            drawn.add(genotype)
    found = [] if len(campaign.searches) > MANY_SEARCHES else [*campaign.searches, *campaign.selections]
    for run in found:
        if run.genotype is not None and run.genotype not in drawn and run.finished:
            drawn.add(run.genotype)
            others[run.name.removeprefix("search-").removeprefix("select-")] = cell_view(
                run.genotype, [run], alone=True
            )
    return shown, others


def _over_epochs(campaign: Campaign) -> dict[str, dict[str, Chart]]:
    trainings = {run.name: run for row in campaign.rows for run in row.runs}
    stages = {
        "Searches": campaign.searches,
        "Short trainings": campaign.selections,
        "Full trainings": list(trainings.values()),
    }
    return {title: epoch_charts(Group(title, runs)) for title, runs in stages.items() if runs}
