"""A campaign's report as one HTML page that stands alone, and its figures."""

from dataclasses import dataclass

from darts_hpc.campaigns.tables import (
    PROTOCOL,
    Campaign,
    cost_table,
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


@dataclass(frozen=True, kw_only=True)
class CampaignView:
    """What the page draws. shown, others: cells of the table, and every other found cell. over_epochs: by stage."""

    accuracies: Chart | None
    ranking: Chart | None
    shown: dict[str, CellView]
    others: dict[str, CellView]
    over_epochs: dict[str, dict[str, Chart]]
    alphas: list[AlphaView]

    @classmethod
    def of(cls, campaign: Campaign) -> "CampaignView":
        """Draw a campaign's charts and cells."""
        points = [
            (r.held_out, r.final, r.family, f"{r.cell}: {r.held_out:.2f} %, {r.final:.2f} %")
            for r in campaign.ranking
            if r.held_out is not None and r.final is not None
        ]
        rows = [(row.title, row.accuracies) for row in campaign.rows]
        shown, others = _cells(campaign)
        return cls(
            accuracies=points_chart("Test accuracy of every training, in %", rows),
            ranking=scatter_chart("Final test accuracy in %", "accuracy on the held-out images, in %", points),
            shown=shown,
            others=others,
            over_epochs=_over_epochs(campaign),
            alphas=alpha_views(campaign.searches),
        )

    def figures(self) -> dict[str, Chart]:
        """Return its figures by the name of their file."""
        figures = {"accuracies": self.accuracies, "ranking": self.ranking}
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
        "campaign.html.j2", campaign=campaign, view=view, protocol=PROTOCOL, missing=open_words(campaign).strip("*"),
        results=result_table(campaign), ranking=ranking_table(campaign), costs=cost_table(campaign),
        chosen={f"search-{ranked.cell}" for ranked in campaign.ranking if ranked.chosen},
        machines=shared_and_own(machines) if machines else {},
    )  # fmt: skip


def _cells(campaign: Campaign) -> tuple[dict[str, CellView], dict[str, CellView]]:
    """Return the cells of the table, and every other found cell."""
    drawn: set[Genotype] = set()
    shown, others = {}, {}
    for row in campaign.rows:
        genotype = row.runs[0].genotype if row.cell and row.runs else None
        if genotype is not None:
            shown[row.cell] = cell_view(genotype, row.runs, alone=True)
            drawn.add(genotype)
    for run in [*campaign.searches, *campaign.selections]:
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
