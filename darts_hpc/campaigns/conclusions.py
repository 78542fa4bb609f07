"""What the numbers of a comparison show and what they do not, in sentences."""

from collections.abc import Sequence

from darts_hpc.campaigns.compare import Comparison, Outcome

CLEAR_P = 0.05


def conclusions(comparison: Comparison) -> list[str]:
    """Return a sentence per space on what stands out against its random cells, and one on what that does not show."""
    sentences = [_of_space(space, comparison.in_space(space)) for space in comparison.spaces]
    return [*(sentence for sentence in sentences if sentence), _limits(comparison)]


def _of_space(space: str, outcomes: Sequence[Outcome]) -> str:
    where = f"In {space}, " if space else ""
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
        parts.append("nothing is compared with random cells yet")
    text = where + "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if space else f"{text}."


def _limits(comparison: Comparison) -> str:
    compared = [o for o in comparison.outcomes if o.difference is not None]
    parts = []
    if comparison.setting:
        parts.append(
            f"The numbers hold for trainings of this size ({comparison.setting}) and for each variant's flags, and "
            "say nothing of larger ones"
        )
    if not any(o.family.is_random and o.accuracies for o in comparison.outcomes):
        parts.append("Without random cells they do not show whether a search is worth its cost")
    if compared:
        fewest = min(len(o.accuracies) for o in compared)
        smallest = [o.difference.smallest_p for o in compared if o.difference and o.difference.smallest_p is not None]
        test = f"no rank test can come below p = {max(smallest):.2g}" if smallest else "there is no rank test"
        parts.append(f"With as few cells of a method as {fewest} {test}, and what does not stand out may still differ")
        if len(compared) > 1:
            parts.append(
                f"Of {len(compared)} comparisons about one in twenty stands out by chance alone, for which p is not "
                "corrected"
            )
    return ". ".join(parts) + "."


def _with_interval(outcome: Outcome) -> str:
    found = outcome.difference
    assert found is not None and found.low is not None and found.high is not None
    return f"{outcome.family.method} ({found.mean:+.2f} points, {found.low:+.2f} to {found.high:+.2f})"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
