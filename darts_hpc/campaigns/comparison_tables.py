"""The tables of a comparison: accuracy by method and space, differences to random cells, costs, signs of collapse."""

import statistics
from collections.abc import Sequence
from typing import Any

from darts_hpc.campaigns.compare import Comparison, Outcome
from darts_hpc.campaigns.conclusions import conclusions
from darts_hpc.campaigns.families import RANDOM
from darts_hpc.reporting.groups import Statistic
from darts_hpc.reporting.summary import show
from darts_hpc.reporting.table_formats import comma_separated

Table = tuple[list[str], list[list[str]]]
RANDOM_CELLS = "random cells"
ACCURACY_NOTE = (
    "Test accuracy: mean ± sample standard deviation over n cells, one per search, each the mean of its own trainings. "
    "Best: that of the cell which ranked first on held-out images. Of a published cell, over its trainings."
)
DIFFERENCE_NOTE = (
    "Mean of the method's cells less that of the random cells of the same space. The interval is of 95 %, by a paired "
    "bootstrap of 10,000 draws: cells are drawn anew on each side, seeds of trainings once for both; its percentiles "
    "are expanded, as cells are few. p: Mann and Whitney's test over cells, two-sided and exact."
)
ANYTIME_NOTE = (
    "The cell derived after a share of the epochs, trained for a few epochs as for the ranking, and evaluated on "
    "held-out images; the last point is the found cell. Mean over searches, of accuracy and of the time at the epoch's "
    "end, its validation included."
)
COST_NOTE = (
    "Beside the accuracy, of the normal cell, mean over cells: skip connections and all edges without weights, of 8. "
    "lambda_max: the largest eigenvalue of the Hessian of the validation loss in alpha at its last measurement. Time "
    "and memory are those of searches on this machine, with all measurements of lambda_max, and without ranking and "
    "trainings, which are the same for all."
)


def method_title(method: str) -> str:
    """Return what a table calls a method."""
    return RANDOM_CELLS if method == RANDOM else method


def accuracy_table(comparison: Comparison) -> Table:
    """Return the test accuracy of each method in each space: mean ± std over its cells, n, and the best one's."""
    rows = [
        [method_title(method), *(_accuracy(comparison.of(method, space)) for space in comparison.spaces)]
        for method in comparison.methods
    ]
    for cell, values in comparison.baselines.items():
        count = comparison.baseline_counts[cell]
        words = f"{show(Statistic.of(values), 'percent')} (trainings: {count})" if values else count.why_none
        rows.append([cell, *[words] * len(comparison.spaces)])
    return ["Method", *(space or "Test accuracy" for space in comparison.spaces)], rows


def difference_table(comparison: Comparison) -> Table:
    """Return the difference of each method to the random cells of its space, with its interval and rank test."""
    rows = []
    for outcome in _by_space(comparison):
        found = outcome.difference
        if found is not None:
            interval = "-" if found.low is None or found.high is None else f"{found.low:+.2f} to {found.high:+.2f}"
            p = "-" if found.p is None else f"{found.p:.2g}"
            rows.append([outcome_title(outcome), f"{outcome.count}", f"{found.mean:+.2f}", interval, p])
        elif outcome.count.failed and not outcome.family.is_random:
            rows.append([outcome_title(outcome), f"{outcome.count}", "-", "-", "-"])
    return ["Method", "n", "Difference in points", "95 % interval", "p of the rank test"], rows


def cost_table(comparison: Comparison, hours: str) -> Table:
    """Return what the searches took and whether their cells look collapsed, beside their accuracy."""
    rows = [
        [
            outcome_title(outcome),
            show(outcome.statistic, "percent") if outcome.accuracies else outcome.count.why_none,
            "0"
            if outcome.family.is_random
            else _mean([seconds / 3600 for seconds in outcome.search_seconds], "{:.3f}"),
            show(statistics.fmean(outcome.peak_bytes), "bytes") if outcome.peak_bytes else "-",
            _mean([cell.num_skip_connects for cell in outcome.cells.values()], "{:.1f}"),
            _mean([cell.num_parameter_free for cell in outcome.cells.values()], "{:.1f}"),
            _mean(outcome.eigenvalues, "{:.3g}"),
        ]
        for outcome in _by_space(comparison)
    ]
    header = ["Method", "Test accuracy", f"{hours} per search", "Peak memory", "Skips", "Parameter-free"]
    return [*header, "lambda_max"], rows


def terminal_table(comparison: Comparison) -> Table:
    """Return accuracies and differences in as few columns as a terminal has room for."""
    rows = []
    for outcome in _by_space(comparison):
        found = outcome.difference
        words = "" if found is None else f"{found.mean:+.2f}"
        if found is not None and found.low is not None and found.high is not None:
            words += f" ({found.low:+.2f} to {found.high:+.2f})"
        accuracy = show(outcome.statistic, "percent") if outcome.accuracies else outcome.count.why_none
        rows.append([outcome_title(outcome), f"{outcome.count}", accuracy, words or "-"])
    for cell, values in comparison.baselines.items():
        count = comparison.baseline_counts[cell]
        accuracy = show(Statistic.of(values), "percent") if values else count.why_none
        rows.append([f"{cell}, trainings", f"{count}", accuracy, "-"])
    return ["Method", "n", "Test accuracy", "To random cells (95 %)"], rows


def to_csv(comparison: Comparison) -> str:
    """Return one line per method and space, with its numbers as they are."""
    facts = [_facts(outcome) for outcome in comparison.outcomes]
    names = [name for name, value in facts[0].items() if not isinstance(value, list | dict)]
    return comma_separated(names, [[own[name] for name in names] for own in facts])


def to_facts(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values, for JSON."""
    return {
        "setting": comparison.setting,
        "trainings_per_cell": comparison.num_trainings,
        "outcomes": [_facts(outcome) for outcome in comparison.outcomes],
        "baselines": comparison.baselines,
        "baseline_counts": {cell: vars(count) for cell, count in comparison.baseline_counts.items()},
        "conclusions": conclusions(comparison),
    }


def _accuracy(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not planned"
    if outcome.statistic is None:
        return f"{outcome.count.why_none} (n = {outcome.count})"
    best = "" if outcome.best_accuracy is None else f", best {outcome.best_accuracy:.2f} %"
    return f"{show(outcome.statistic, 'percent')} (n = {outcome.count}){best}"


def _by_space(comparison: Comparison) -> list[Outcome]:
    return [outcome for space in comparison.spaces for outcome in comparison.in_space(space)]


def outcome_title(outcome: Outcome) -> str:
    """Return what a table calls a method in a space."""
    return outcome.family.title.replace("random search", RANDOM_CELLS)


def _mean(values: Sequence[float], form: str) -> str:
    return form.format(statistics.fmean(values)) if values else "-"


def _facts(outcome: Outcome) -> dict[str, Any]:
    found, difference, cells = outcome.statistic, outcome.difference, outcome.cells.values()
    return {
        "space": outcome.family.space,
        "method": outcome.family.method,
        "n": len(outcome.accuracies),
        "num_planned": outcome.num_planned,
        "num_failed": outcome.count.failed,
        "mean_accuracy": None if found is None else found.mean,
        "std_accuracy": None if found is None else found.std,
        "best_cell": outcome.best,
        "best_accuracy": outcome.best_accuracy,
        "difference": None if difference is None else difference.mean,
        "difference_low": None if difference is None else difference.low,
        "difference_high": None if difference is None else difference.high,
        "rank_test_p": None if difference is None else difference.p,
        "smallest_p": None if difference is None else difference.smallest_p,
        "search_seconds": statistics.fmean(outcome.search_seconds) if outcome.search_seconds else None,
        "search_peak_bytes": statistics.fmean(outcome.peak_bytes) if outcome.peak_bytes else None,
        "skip_connects": statistics.fmean(c.num_skip_connects for c in cells) if cells else None,
        "parameter_free": statistics.fmean(c.num_parameter_free for c in cells) if cells else None,
        "eigenvalue": statistics.fmean(outcome.eigenvalues) if outcome.eigenvalues else None,
        "accuracies": outcome.accuracies,
        "anytime": [vars(point) for point in outcome.anytime],
    }
