"""What to say of a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return "did you mean X?" for the most similar known name; where none is, `otherwise`, or "choose from A, B".

    Case, leading dashes, and dashes for underscores make no difference.
    """
    spelled = {_plain(word): word for word in known}
    near = difflib.get_close_matches(_plain(name), spelled, n=1, cutoff=0.5)
    if near:
        return f"did you mean {spelled[near[0]]}?"
    return otherwise if otherwise is not None else f"choose from {', '.join(spelled.values())}"


def _plain(word: str) -> str:
    return word.strip("-").replace("-", "_").casefold()
