"""What the numbers of a comparison show and what they do not, in sentences."""

from collections.abc import Sequence

from darts_hpc.campaigns.compare import Comparison, Outcome
from darts_hpc.campaigns.families import RANDOM

CLEAR_P = 0.05


def conclusions(comparison: Comparison) -> list[str]:
    """Return what stands out against the random cells of each space, what failed, and what that does not show."""
    sentences = []
    for space in comparison.spaces:
        outcomes = comparison.in_space(space)
        sentences += [_of_space(space, outcomes), _failures(space, outcomes)]
    for cell, count in comparison.baseline_counts.items():
        sentences += [f"{count.failed} of {count.planned} trainings of {cell} failed."] if count.failed else []
    return [*(sentence for sentence in sentences if sentence), _limits(comparison)]


def _of_space(space: str, outcomes: Sequence[Outcome]) -> str:
    random = next((outcome for outcome in outcomes if outcome.family.is_random), None)
    if random is None:
        return ""
    known = [outcome for outcome in outcomes if outcome.difference is not None]
    clear = [outcome for outcome in known if outcome.difference and outcome.difference.stands_out]
    better = [_with_interval(o) for o in clear if o.difference and o.difference.mean > 0]
    worse = [_with_interval(o) for o in clear if o.difference and o.difference.mean < 0]
    rest = [o.family.method for o in known if o not in clear]
    parts = [
        f"{_listed(words)} {'is' if len(words) == 1 else 'are'} {what} than random cells"
        for words, what in ((better, "better"), (worse, "worse"))
        if words
    ]
    if rest:
        parts.append(f"{_listed(rest)} can't be told from random cells")
    if not known:
        can_be = random.count.can_be_any and any(o.count.can_be_any for o in outcomes if o is not random)
        parts.append(f"nothing {'is' if can_be else 'can be'} compared with random cells{' yet' if can_be else ''}")
    return _sentence(space, parts)


def _failures(space: str, outcomes: Sequence[Outcome]) -> str:
    """Say whose mean is of fewer cells than planned: a method may fail just where its cells would be poor."""
    parts = []
    for outcome in outcomes:
        planned, method = outcome.num_planned, outcome.family.method
        cells = "random cells" if outcome.family.is_random else f"cells of {method}"
        if outcome.failed_searches:
            parts.append(f"{outcome.failed_searches} of {planned} searches of {method} failed")
        if outcome.failed_trainings:
            parts.append(f"{outcome.failed_trainings} of {planned} {cells} failed to be trained")
    return _sentence(space, parts) if parts else ""


def _limits(comparison: Comparison) -> str:
    compared = [o for o in comparison.outcomes if o.difference is not None]
    parts = []
    if comparison.setting:
        parts.append(
            f"The numbers hold for trainings of this size ({comparison.setting}) and for each variant's flags, and "
            "say nothing of larger ones"
        )
    random = [o.count for o in comparison.outcomes if o.family.is_random]
    if not any(count.done for count in random):
        why = f" ({next((c for c in random if c.can_be_any), random[0]).why_none})" if random else ""
        parts.append(f"Without random cells{why} the numbers do not show whether a search is worth its cost")
    if compared:
        parts.append(f"{_smallest_p(comparison, compared)}, and what does not stand out may still differ")
        num_intervals = sum(o.difference is not None and o.difference.low is not None for o in compared)
        if num_intervals > 1:
            parts.append(
                f"Of {num_intervals} comparisons about one in twenty stands out by chance alone, for which p is not "
                "corrected"
            )
    return ". ".join(parts) + "."


def _smallest_p(comparison: Comparison, compared: Sequence[Outcome]) -> str:
    """Say what the weakest of the rank tests can't come below."""
    tested = {o.difference.smallest_p: o for o in compared if o.difference and o.difference.smallest_p is not None}
    if not tested:
        return "With one cell on a side there is neither an interval nor a rank test"
    weakest = tested[max(tested)]
    random = comparison.of(RANDOM, weakest.family.space)
    assert random is not None
    return (
        f"With {weakest.count.done} cells against {random.count.done} random ones no rank test can come below p = "
        f"{max(tested):.2g}"
    )


def _sentence(space: str, parts: Sequence[str]) -> str:
    text = (f"in {space}, " if space else "") + "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if space else f"{text}."


def _with_interval(outcome: Outcome) -> str:
    found = outcome.difference
    assert found is not None and found.low is not None and found.high is not None
    return f"{outcome.family.method} ({found.mean:+.2f} points, {found.low:+.2f} to {found.high:+.2f})"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
