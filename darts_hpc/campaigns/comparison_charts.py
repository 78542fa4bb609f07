"""The figures of a comparison: every cell's accuracy, accuracy against search time, and the signs of collapse."""

import statistics
from collections.abc import Iterable

from darts_hpc.campaigns.compare import Comparison, Outcome
from darts_hpc.campaigns.comparison_tables import RANDOM_CELLS, method_title
from darts_hpc.campaigns.families import RANDOM
from darts_hpc.reporting.charts import ORDER, Chart, Curve, line_chart, points_chart, scatter_chart
from darts_hpc.units import counted

OVER_EPOCHS = {
    "skips": ("Skip connections in the normal cell", "skip_connects"),
    "eigenvalues": ("Largest eigenvalue of the validation loss in alpha", "eigenvalue"),
}
"""Name of a chart's file -> its title, and the number that searches record."""


def comparison_charts(comparison: Comparison) -> dict[str, Chart]:
    """Return the charts of every space, by the name of their file; those that nothing is recorded for are left out."""
    charts: dict[str, Chart | None] = {}
    for space in comparison.spaces:
        outcomes = comparison.in_space(space)
        where = f" in {space}" if space else ""
        rows = [(method_title(o.family.method), o.per_cell) for o in outcomes if o.accuracies]
        rows += [(cell, values) for cell, values in comparison.baselines.items() if values]
        dot = "one cell, or training" if any(comparison.baselines.values()) else "one cell"
        own = {
            "accuracy": points_chart(f"Test accuracy{where}, in %", rows, point=dot, band=RANDOM_CELLS),
            "anytime": _anytime(
                f"Held-out accuracy of the cell against search time{where}, in %", comparison, outcomes
            ),
            "collapse": _collapse(f"Test accuracy against edges without weights{where}, in %", comparison, outcomes),
        }
        own |= {
            name: line_chart(f"{title}{where}", list(_over_epochs(comparison, outcomes, recorded)))
            for name, (title, recorded) in OVER_EPOCHS.items()
        }
        charts |= {f"{space}-{name}" if space else f"comparison-{name}": chart for name, chart in own.items()}
    return {name: chart for name, chart in charts.items() if chart is not None}


def color_of(comparison: Comparison, method: str) -> str:
    """Return a method's color, the same in every chart."""
    return "muted" if method == RANDOM else ORDER[comparison.methods.index(method) % len(ORDER)]


def is_dashed(comparison: Comparison, method: str) -> bool:
    """Whether a method's curves are dashed, as an earlier one has their color."""
    return comparison.methods.index(method) >= len(ORDER)


def _anytime(title: str, comparison: Comparison, outcomes: list[Outcome]) -> Chart | None:
    searched = [outcome for outcome in outcomes if len(outcome.anytime) > 1]
    curves = [
        Curve(
            outcome.family.method,
            [(point.seconds / 60, point.accuracy) for point in outcome.anytime],
            color_of(comparison, outcome.family.method),
            f"{outcome.family.method}, mean of {outcome.anytime[0].n}",
            dashed=is_dashed(comparison, outcome.family.method),
            dots=True,
        )
        for outcome in searched
    ]
    random = [outcome.held_out for outcome in outcomes if outcome.family.is_random and outcome.held_out]
    if curves and random:
        end = max(x for curve in curves for x, _ in curve.points)
        mean = statistics.fmean(random[0])
        curves.append(Curve(RANDOM_CELLS, [(0.0, mean), (end, mean)], "muted", "mean of random cells", dashed=True))
    return line_chart(title, curves, "minutes of search", whole=False)


def _collapse(title: str, comparison: Comparison, outcomes: list[Outcome]) -> Chart | None:
    points = [
        (
            genotype.num_parameter_free,
            accuracy,
            method_title(outcome.family.method),
            f"{cell}: {counted(genotype.num_skip_connects, 'skip connection')}, "
            f"{counted(genotype.num_parameter_free, 'edge')} without weights, {accuracy:.2f} %",
        )
        for outcome in outcomes
        for (cell, genotype), accuracy in zip(outcome.trained_cells.items(), outcome.per_cell, strict=True)
    ]
    colors = {method_title(o.family.method): color_of(comparison, o.family.method) for o in outcomes}
    return scatter_chart(title, "edges of the normal cell without weights, of 8", points, colors)


def _over_epochs(comparison: Comparison, outcomes: list[Outcome], recorded: str) -> Iterable[Curve]:
    for outcome in outcomes:
        for run in outcome.searches:
            points = [(record["epoch"] + 1, record[recorded]) for record in run.epochs if recorded in record]
            if points:
                method = outcome.family.method
                yield Curve(
                    method, points, color_of(comparison, method), run.name, is_dashed(comparison, method)
                )  # fmt: skip
