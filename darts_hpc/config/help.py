"""--help: each flag of a command with its text and its default, section by section, those without use at the end."""

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from darts_hpc.config.flags import Flag, flags_of
from darts_hpc.config.presets import EXAMPLES, entry_of

CONFIG = (
    "Preset to read{example}: flat YAML whose keys are the flags below. Flags typed beside it win; of several presets, "
    "a later one."
)
UNUSED = "Accepted, so that command lines of the original scripts run, and without effect"
INDENT = 26
NARROWEST, WIDEST = 72, 100
WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}
UNBROKEN = "\N{NO-BREAK SPACE}"


def show_help(cls: type, program: str, about: str) -> None:
    """Print the help of a command whose flags are those of a config class, as wide as the terminal."""
    print(help_text(cls, program, about, shutil.get_terminal_size().columns))
    sys.stdout.flush()  # here, where a reader that has left, such as head, is caught


def help_text(cls: type, program: str, about: str, width: int) -> str:
    """Return the help; no line is wider than `width`, and no word is broken."""
    width = min(max(width, NARROWEST), WIDEST)
    words = [flag for flag in flags_of(cls).values() if flag.positional]
    usage = ["usage:", program, *(_typed(flag) for flag in words), "[--flag value ...]"]
    blocks = [textwrap.fill(" ".join(usage), width, subsequent_indent="    "), _paragraph(about, width)]
    blocks.append("\n".join(_entry(*entry, width) for entry in [*map(entry_of_flag, words), *general(cls)]))
    unused = [flag for flag in flags_of(cls).values() if flag.unused]
    for title, flags in [*sections(cls), (UNUSED, unused)]:
        shown = [_entry(*entry_of_flag(flag), width) for flag in flags]
        if shown:
            blocks.append("\n".join([*([_paragraph(f"{title}:", width)] if title else []), *shown]))
    return "\n\n".join(blocks)


def general(cls: type) -> list[tuple[str, str]]:
    """Return the flags that every command has, and what is said of them."""
    example = EXAMPLES.get(entry_of(cls))
    config = CONFIG.format(example=f", such as {example}" if example else "")
    return [
        ("--config FILE.yaml", config),
        ("-h, --help", "Show this help and exit."),
        ("--version", "Show the version and exit."),
    ]


def sections(cls: type) -> Iterator[tuple[str, list[Flag]]]:
    """Yield each section's title, empty for flags of the class's own, and those of its flags that have an effect."""
    hints = get_type_hints(cls)
    flags = {name: flag for name, flag in flags_of(cls).items() if not flag.unused and not flag.positional}
    for is_section, items in groupby(fields(cls), key=lambda item: is_dataclass(hints[item.name])):
        if not is_section:
            yield "", [flags[item.name] for item in items if item.name in flags]
            continue
        for item in items:
            yield title(hints[item.name]), [flags[name] for name in flags_of(hints[item.name]) if name in flags]


def title(cls: type) -> str:
    """Return what a section is about, from its class's docstring."""
    return (cls.__doc__ or cls.__name__).split(".\n")[0].strip().rstrip(".")


def entry_of_flag(flag: Flag) -> tuple[str, str]:
    """Return how a flag is typed, and what is said of it."""
    return _typed(flag), f"{text_of(flag)}{_default(flag)}"


def text_of(flag: Flag) -> str:
    """Return the string under a flag's field, of the class that has it or of the nearest that it inherits it from."""
    return next((texts[flag.name] for base in flag.owner.__mro__ if flag.name in (texts := _texts(base))), "")


def _typed(flag: Flag) -> str:
    if flag.positional:
        return f"{flag.name.upper()}{' ...' if flag.is_list else ''}"
    if flag.type is bool:
        return f"--{flag.name}, --no_{flag.name}"
    kind = get_args(flag.type)[0] if flag.is_list or get_origin(flag.type) in (Union, UnionType) else flag.type
    metavars = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
    value = f"{{{','.join(get_args(kind))}}}" if get_origin(kind) is Literal else metavars[kind]
    return f"--{flag.name} {value}{' ...' if flag.is_list else ''}"


def _default(flag: Flag) -> str:
    value = flag.default
    if value is MISSING or value is None:
        return " (required)" if value is MISSING else ""
    if isinstance(value, bool):
        return _unbroken(" (default: on)" if value else " (default: off)")
    if isinstance(value, tuple):
        return f" (default: {' '.join(map(str, value))})"
    return _unbroken(f" (default: {value})" if str(value) else " (default: none)")


def _unbroken(words: str) -> str:
    return f" {words[1:].replace(' ', UNBROKEN)}" if len(words) < INDENT else words


def _entry(typed: str, text: str, width: int) -> str:
    """Lay out one flag: its text beside it, or below where it is too long."""
    head = f"  {typed}"
    filled = [f"{' ' * INDENT}{line}" for line in textwrap.wrap(text, width - INDENT, **WHOLE_WORDS)]
    if len(head) + 2 <= INDENT:
        head, filled = head.ljust(INDENT) + filled[0].lstrip(), filled[1:]
    if len(head) > width:  # many values
        cut = head.rindex(",", 0, width) + 1
        head = f"{head[:cut]}\n{' ' * INDENT}{head[cut:]}"
    return "\n".join([head, *filled]).replace(UNBROKEN, " ")


def _paragraph(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width, **WHOLE_WORDS)


def _texts(cls: type) -> dict[str, str]:
    return _texts_of_module(cls.__module__).get(cls.__name__, {}) if is_dataclass(cls) else {}


@cache
def _texts_of_module(name: str) -> dict[str, dict[str, str]]:
    """Return class -> field -> the string under it."""
    found = {}
    for node in ast.parse(inspect.getsource(sys.modules[name])).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                ast.unparse(item.target): " ".join(str(after.value.value).split())
                for item, after in pairwise(node.body)
                if isinstance(item, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            }
    return found
