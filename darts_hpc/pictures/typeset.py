"""Names of states, written c_{k-2} in data, with real subscripts for each kind of reader."""

import re

SUBSCRIPTS = str.maketrans("k-0123456789", "ₖ₋₀₁₂₃₄₅₆₇₈₉")
INDEXED = re.compile(r"c_\{(.*?)\}")


def plain(text: str) -> str:
    """Write subscripts as characters of their own: cₖ₋₂."""
    return INDEXED.sub(lambda found: "c" + found[1].translate(SUBSCRIPTS), text)


def mathtext(text: str) -> str:
    """Write subscripts as matplotlib reads them, $c_{k-2}$, and other dollars as dollars."""
    return INDEXED.sub(lambda found: f"$c_{{{found[1]}}}$", text.replace("$", r"\$"))


def html(text: str) -> str:
    """Write subscripts as HTML. The text is already escaped."""
    return INDEXED.sub(lambda found: f"c<sub>{found[1]}</sub>", text)
