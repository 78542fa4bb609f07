"""The tables and the picture of campaigns that compare methods, from what benchmarks/keep_comparison.py kept."""

from pathlib import Path
from typing import Any

NAMES = {
    "first_order": "DARTS, first order",
    "unrolled": "DARTS, finite differences",
    "exact": "DARTS, exact second order",
    "beta": "beta-DARTS",
    "darts_minus": "DARTS- (`robust.yaml`)",
    "pc_darts": "PC-DARTS",
    "random": "random cells",
}
HEADER = (
    "space",
    "method",
    "n",
    "test accuracy",
    "to random cells, 95 %",
    "p",
    "hours",
    "skips",
    "no weights",
    "λ max",
)
Row = tuple[object, ...]


def rows(result: dict[str, Any]) -> list[Row]:
    """Return a line per method and space, with the mean counts of skips and of all edges without weights."""
    return [
        (
            found["space"],
            NAMES[found["method"]],
            found["n"],
            f"{found['mean_accuracy']:.2f} ± {found['std_accuracy']:.2f} %",
            "-" if found["difference"] is None
            else f"{found['difference']:+.2f} ({found['difference_low']:+.2f} to {found['difference_high']:+.2f})",
            "-" if found["rank_test_p"] is None else f"{found['rank_test_p']:.2g}",
            f"{found['search_seconds'] / 3600:.3f}" if found["search_seconds"] else "0",
            f"{found['skip_connects']:.1f}",
            f"{found['parameter_free']:.1f}",
            "-" if found["eigenvalue"] is None else f"{found['eigenvalue']:.2f}",
        )
        for found in result["comparison"]["outcomes"]
    ]  # fmt: skip


def accuracies(result: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Return the header and the lines of method x space: mean ± standard deviation over cells."""
    outcomes = result["comparison"]["outcomes"]
    spaces = list(dict.fromkeys(found["space"] for found in outcomes))
    by = {(found["method"], found["space"]): found for found in outcomes}
    lines: list[Row] = []
    for method in sorted({found["method"] for found in outcomes}, key=list(NAMES).index):
        cells = [by.get((method, space)) for space in spaces]
        lines.append(
            (NAMES[method], *(f"{c['mean_accuracy']:.2f} ± {c['std_accuracy']:.2f} %" if c else "-" for c in cells))
        )
    return ["method", *spaces], lines


def sentences(result: dict[str, Any]) -> str:
    """Return what the report says of the numbers, and what they took."""
    said = "\n".join(f"- {sentence}" for sentence in result["comparison"]["conclusions"])
    ranking = result["ranking"]
    return (
        f"{result['jobs']} jobs, {result['job_hours']:.1f} hours of one core beside other work "
        f"({result['machine'].split(',')[0]}, torch {result['torch']}).\nRanking by short trainings on held-out images "
        f"against the final accuracy: Spearman {ranking['spearman']:.2f} over {ranking['n']} cells.\n"
        f"The report's sentences:\n\n{said}\n"
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw every cell's test accuracy by method, a panel for each space."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    outcomes = result["comparison"]["outcomes"]
    spaces = list(dict.fromkeys(found["space"] for found in outcomes))
    figure, axes = plt.subplots(1, len(spaces), figsize=(4.2 * len(spaces), 2.8), layout="constrained", sharex=True)
    for axis, space in zip(axes, spaces, strict=True):
        found = [outcome for outcome in reversed(outcomes) if outcome["space"] == space]
        for place, outcome in enumerate(found):
            means = [sum(values) / len(values) for values in outcome["accuracies"].values()]
            is_random = outcome["method"] == "random"
            if is_random:
                axis.axvspan(min(means), max(means), color="0.92", zorder=0)
            axis.plot(means, [place] * len(means), "o", color="0.5" if is_random else "tab:blue", alpha=0.7)
            axis.plot(outcome["mean_accuracy"], place, "|", color="tab:red", markersize=18, markeredgewidth=2)
        axis.set_yticks(range(len(found)), [NAMES[outcome["method"]].partition(" (")[0] for outcome in found])
        axis.set(title=f"space {space}", xlabel="test accuracy, %", ylim=(-0.6, len(found) - 0.4))
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
