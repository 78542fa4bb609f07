"""The reference of all flags, as Markdown, from the config classes that the entry points read.

    python docs/scripts/flags.py

A config class is found by its entry point's `run_entry(main, Config)`; the text under a field is what --help shows.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from darts_hpc.config.flags import AFFECTS, flags_of

PACKAGE = Path(__file__).parents[2] / "darts_hpc"
ORDER = (
    "train_search",
    "train",
    "evaluate",
    "visualize",
    "report",
    "plan",
    "export",
    "train_imagenet",
    "pack",
    "stage",
)
HEAD = """# Flags

Every flag of every command, made from the classes in `darts_hpc/config`. `--help` shows the same.

- `--config FILE.yaml` reads a preset: flat YAML whose keys are the flags below. Flags typed beside it win.
- A switch is turned on by `--name` and off by `--no_name`. In YAML it is `true` or `false`.
- `_` and `-` are the same in a flag's name.
- "(none)" means: left out. What happens then stands beside it.
- "affects" says what [another value changes](#what-a-flag-affects), and so whether a run may go on with one.
"""


def reference() -> str:
    """Return the whole page."""
    sections = [HEAD]
    described: dict[type, str] = {}  # config class -> the entry that it was described for
    for entry in entries():
        title, classes = config_classes(entry)
        sections.append(f"## {entry}\n\n`python -m darts_hpc.{entry}`: {title}\n")
        for cls in classes:
            if cls in described:
                sections.append(f"It takes the flags of [{described[cls]}](#{described[cls]}).\n")
            else:
                described[cls] = entry
                sections += class_sections(cls)
    return "\n".join([*sections, what_flags_affect()])


def what_flags_affect() -> str:
    """Return what the words of the column "affects" mean."""
    rows = [f"| {key} | {text[0].upper()}{text[1:]} |" for key, text in AFFECTS.items()]
    return "\n".join(["## What a flag affects\n", "| affects | what that means |", "|---|---|", *rows]) + "\n"


def entries() -> list[str]:
    """Return the names of all entry points, those in ORDER first."""
    found = [path.stem for path in sorted(PACKAGE.glob("*.py")) if config_classes(path.stem)[1]]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def config_classes(entry: str) -> tuple[str, list[type]]:
    """Return an entry's description, and the classes that its run_entry calls name."""
    tree = ast.parse((PACKAGE / f"{entry}.py").read_text(encoding="utf-8"))
    home = {  # class -> module
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darts_hpc.config.")
        for alias in node.names
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_entry"]
    names = dict.fromkeys(name for call in calls if (name := ast.unparse(call.args[1])) in home)
    # where an entry chooses between several, the last one is what it does by default
    classes = [getattr(importlib.import_module(str(home[name])), name) for name in reversed(names)]
    title = (ast.get_docstring(tree) or "").split("\n\n")[0].partition(": python -m")[0].partition(": darts_hpc")[0]
    return f"{title.rstrip('.')}.", classes


def class_sections(cls: type) -> Iterator[str]:
    """Yield a line and a table for a config class, and for each section in it."""
    config: Any = None if any(is_required(item) for item in fields(cls)) else cls()
    hints = get_type_hints(cls)
    is_run = any(flag.affects != "numbers" for flag in flags_of(cls).values())
    own = [item for item in fields(cls) if not is_dataclass(hints[item.name])]
    if own:
        yield f"**{first_line(cls)}**\n\n{table(cls, own, config, is_run)}"
    for item in fields(cls):
        if is_dataclass(hints[item.name]):
            section = hints[item.name]() if config is None else getattr(config, item.name)
            yield f"**{first_line(type(section))}**\n\n{table(type(section), fields(section), section, is_run)}"


def table(cls: type, items: Any, config: Any, is_run: bool) -> str:
    """Return the flags of one section as a table, with what they affect where a run may go on."""
    texts, flags = field_texts(cls), flags_of(cls)
    more = " affects |" if is_run else ""
    rows = [f"| flag | default | what it does |{more}", f"|---|---|---|{'---|' if is_run else ''}"]
    for item in items:
        flag = flags[item.name]
        name = flag.name.upper() if flag.positional else f"--{flag.name}"
        default = (
            "required" if is_required(item) else shown(item.default if config is None else getattr(config, item.name))
        )
        choices = f" {flag.expected[0].upper()}{flag.expected[1:]}." if "one of" in expected(flag) else ""
        text = f"{texts.get(item.name, '')}{choices}".replace("CLASS/*", "CLASS/\\*")
        rows.append(f"| `{name}` | {default} | {text} |{f' {flag.affects} |' if is_run else ''}")
    return "\n".join(rows) + "\n"


def expected(flag: Any) -> str:
    """Return what a value looks like; nothing for a switch, which has none."""
    return "" if flag.type is bool else flag.expected


def shown(value: object) -> str:
    """Return a default as the command line spells it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return f"`{' '.join(map(str, value))}`" if value else "(none)"
    return "(none)" if value is None or str(value) == "" else f"`{value}`"


def is_required(item: Field) -> bool:
    """Whether a flag has no default."""
    return item.default is MISSING and item.default_factory is MISSING


def first_line(cls: type) -> str:
    """Return what a section is about."""
    return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


def flag_texts(cls: type) -> dict[str, str]:
    """Return the text of each flag of a config class, those of its sections too."""
    texts = field_texts(cls)
    for hint in get_type_hints(cls).values():
        if isinstance(hint, type) and is_dataclass(hint):
            texts |= flag_texts(hint)
    return texts


def field_texts(cls: type) -> dict[str, str]:
    """Return the text under each field, those that are inherited too."""
    texts: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
        for node, after in pairwise(body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                texts[ast.unparse(node.target)] = " ".join(str(after.value.value).split()).replace("|", "\\|")
    return texts


if __name__ == "__main__":
    print(reference())
