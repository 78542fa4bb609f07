"""What is wrong with a command line, in one line: tyro's own words take a box."""

import contextlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

import tyro

from darts_hpc.config.flags import Flag
from darts_hpc.suggest import did_you_mean
from darts_hpc.user_files import check_path, shown

LISTED = "--help lists the known ones"


def check_words(tokens: Sequence[str], flags: dict[str, Flag], source: str) -> None:
    """Raise ValueError for a text that no file could hold, and for what can't be a path where one is expected."""
    for token, values in grouped(tokens):
        flag = flags.get(token[2:].replace("-", "_"))
        for value in (token, *values):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"{source}{shown(ascii(value))} is not UTF-8; expected text in UTF-8: rename what it names, or set "
                    "LC_ALL=C.UTF-8"
                ) from None
            if "\0" in value:
                raise ValueError(f"{source}{token} {shown(ascii(value))} holds a NUL; expected text: leave that out")
        is_bare = not token and any(each.positional and each.is_path for each in flags.values())
        if is_bare or (flag is not None and (flag.is_path or flag.name == "arch")):
            for value in values:
                _check_named(value, f"{source}{token} ".lstrip(), may_be_empty=flag is not None and flag.default == "")
        if flag is not None and flag.is_path:
            for value in values:
                check_path(value, f"{source}{token}")


def _check_named(value: str, what: str, may_be_empty: bool) -> None:
    """Check that a shell left a value in it, and knows whose home folder it begins with."""
    if not value and not may_be_empty:
        raise ValueError(f"{what}'': expected a name or a path; is a variable of the shell empty?")
    if re.match(r"~[\w.-]*(/|$)", value):
        raise ValueError(f"{what}{shown(value)}: no user of that name has a home here; for such a file write ./~")


def explain_tokens(tokens: Sequence[str], flags: dict[str, Flag], source: str) -> None:
    """Raise ValueError for the first unknown flag, bad value or superfluous word among the tokens."""
    spellings = {f"--{name}": flag for name, flag in flags.items() if not flag.positional}
    spellings |= {f"--no_{name}": flag for name, flag in flags.items() if flag.type is bool}
    num_words = sum(math.inf if flag.is_list else 1 for flag in flags.values() if flag.positional)
    for token, values in grouped(tokens):
        flag = spellings.get("--" + token[2:].replace("-", "_"))
        if token and not flag:
            near = did_you_mean(token[:100], [*spellings, "--config"], LISTED)
            raise ValueError(f"{source}unknown flag {shown(token)}; {near}")
        num_values = 0 if flag is None or flag.type is bool else len(values) if flag.is_list else 1
        if flag and num_values and not values:
            raise ValueError(f"{source}{token}: expected {flag.expected}")
        for value in values[:num_values]:
            if flag and not _accepts(flag, value):
                near = did_you_mean(value, get_args(flag.type), "") if get_origin(flag.type) is Literal else ""
                raise ValueError(
                    f"{source}{f'{token} {shown(value)}'.strip()}: expected {flag.expected}{'; ' if near else ''}{near}"
                )
        num_words -= len(values) - num_values
        if num_words < 0:
            hint = f"; write --{flag.name} or --no_{flag.name}" if flag and flag.type is bool else ""
            raise ValueError(f"{source}unexpected {shown(repr(values[-1]))} after {token or 'the command'}{hint}")


def grouped(tokens: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Group tokens as (flag, words up to the next flag); the words before the first flag come with an empty one."""
    token, values = "", []
    for word in tokens:
        if not re.match(r"--?(?!inf|nan)[A-Za-z]", word):
            values.append(word)
            continue
        yield token, values
        token, equals, value = word.partition("=")
        values = [value] if equals else []
    yield token, values


def _accepts(flag: Flag, value: str) -> bool:
    """Ask tyro, which does all the typing, whether this word is a value of the flag."""
    if flag.type in (str, Path):  # any word is, also one that looks like a flag, as in --search_flags="--epochs 3"
        return True
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tyro.cli(flag.type, args=[value])
    except SystemExit:
        return False
    return True


def explain_stop(stop: SystemExit, flags: dict[str, Flag]) -> str:
    """Find the line behind tyro's exit: the ValueError of a config's own checks, or a missing word."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValueError):
        cause = cause.__cause__ or cause.__context__
    missing = " and ".join(name.upper() for name, flag in flags.items() if flag.positional)
    return str(cause) if cause else f"expected {missing or 'other flags'}; --help shows how"
