"""Variants of a campaign: searches with a name, to compare. Each is NAME: FLAGS, or NAME in SPACE ...: FLAGS."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

FORM = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.+-]{0,59})( +in +(?P<spaces>[\w, ]+?))? *(: *(?P<flags>.*))?", re.DOTALL
)
BY_CAMPAIGN = {
    "--space": "write NAME in SPACE: FLAGS",
    "--seed": "give --search_seeds",
    "--device": "give the campaign's own --device",
    "--data": "give the campaign's own --data",
    "--save": "leave it out",
    "--resume": "leave it out",
}
"""Flags of a search that the campaign gives it -> what to do instead."""


@dataclass(frozen=True)
class Variant:
    """A search with a name. spaces: those it is searched in. flags: tokens of train_search, after its preset."""

    name: str
    spaces: tuple[str, ...]
    flags: tuple[str, ...]


def read_variants(texts: Sequence[str], spaces: Sequence[str]) -> list[Variant]:
    """Read variants, each of which is searched in all spaces unless it names some of them.

    Raises ValueError, one line, for one of another form, an unknown space, and a name that is given twice in a space.
    """
    variants = [_read(text, spaces) for text in texts]
    taken = [(variant.name, space) for variant in variants for space in variant.spaces]
    for name, space in taken:
        if taken.count((name, space)) > 1:
            raise ValueError(f"--variants names {name} twice in {space}: expected another name for each")
    return variants


def _read(text: str, spaces: Sequence[str]) -> Variant:
    found = FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"--variants {text!r}: expected NAME: FLAGS, such as 'beta: --alpha_regulariser beta', or NAME in "
            "SPACE ...: FLAGS; a name is of letters a-z, digits and _ . + -"
        )
    name, own = found["name"], found["spaces"]
    if name == "random":
        raise ValueError(
            "--variants random: expected another name, as the random cells are called so; see --random_cells"
        )
    named = tuple(dict.fromkeys(re.split(r"[, ]+", own.strip(", ")))) if own else tuple(spaces)
    for space in named:
        if space not in spaces:
            raise ValueError(f"--variants {name} in {space}: expected one of --spaces {' '.join(spaces)}")
    try:
        flags = tuple(shlex.split(found["flags"] or ""))
    except ValueError as error:
        raise ValueError(
            f"--variants {name}: expected flags of train_search, not {found['flags']!r} ({error})"
        ) from None
    for flag in flags:
        if way_out := BY_CAMPAIGN.get(flag.partition("=")[0]):
            raise ValueError(f"--variants {name}: expected no {flag}, which the campaign gives each search; {way_out}")
    return Variant(name, named, flags)
