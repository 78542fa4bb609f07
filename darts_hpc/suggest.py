"""What to say of a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return "did you mean X?" for the most similar known name; where none is, `otherwise`, or "choose from A, B".

    Case, leading dashes, and dashes for underscores make no difference. Initials are an abbreviation: lr.
    """
    spelled = {_plain(word): word for word in known}
    near = [word for word in spelled if _plain(name) in _abbreviations(word)]
    near = near or difflib.get_close_matches(_plain(name), spelled, n=1, cutoff=0.5)
    if near:
        return f"did you mean {spelled[near[0]]}?"
    return otherwise if otherwise is not None else f"choose from {', '.join(spelled.values())}"


def _abbreviations(word: str) -> set[str]:
    """Return a name with some of its words, one after another, as initials: arch_learning_rate as alr and arch_lr."""
    words = [part for part in word.split("_") if part]
    runs = [(start, end) for end in range(2, len(words) + 1) for start in range(end - 1)]
    return {
        "_".join([*words[:start], "".join(part[0] for part in words[start:end]), *words[end:]]) for start, end in runs
    }


def _plain(word: str) -> str:
    return word.strip("-").replace("-", "_").casefold()
