"""The reference of all flags, as Markdown, from the config classes that the commands read; --help says the same.

python docs/scripts/flags.py
"""

from dataclasses import MISSING

from darts_hpc.__main__ import COMMANDS
from darts_hpc.config.completion import CONFIGS
from darts_hpc.config.flags import AFFECTS, Flag, flags_of
from darts_hpc.config.help import UNUSED, sections, text_of
from darts_hpc.config.program import MODULES

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
    parts = [HEAD]
    described: dict[type, str] = {}  # config class -> the command that it was described for
    for command, classes in CONFIGS.items():
        module, what = MODULES.get(command, command), does(command)
        parts.append(
            f"## {command}\n\n`darts {command}`, or `python -m darts_hpc.{module}`: {what[0].upper()}{what[1:]}.\n"
        )
        for cls in classes:
            if cls in described:
                parts.append(f"It takes the flags of [{described[cls]}](#{described[cls]}).\n")
            else:
                described[cls] = command
                parts.append(tables(cls))
    return "\n".join([*parts, what_flags_affect()])


def does(command: str) -> str:
    """Return what a command does, as the list of commands says it."""
    return next(group[command] for group in COMMANDS.values() if command in group)


def what_flags_affect() -> str:
    """Return what the words of the column "affects" mean."""
    rows = [f"| {key} | {text[0].upper()}{text[1:]} |" for key, text in AFFECTS.items()]
    return "\n".join(["## What a flag affects\n", "| affects | what that means |", "|---|---|", *rows]) + "\n"


def tables(cls: type) -> str:
    """Return a table of each section of a config class, as --help has them."""
    flags = flags_of(cls).values()
    is_run = any(flag.affects != "numbers" for flag in flags)
    (title, first), *others = sections(cls)
    groups = [(title, [flag for flag in flags if flag.positional] + first), *others]
    groups.append((UNUSED, [flag for flag in flags if flag.unused]))
    return "\n".join(table(title, group, is_run) for title, group in groups if group)


def table(title: str, flags: list[Flag], is_run: bool) -> str:
    """Return the flags of one section as a table, with what they affect where a run may go on."""
    more = " affects |" if is_run else ""
    rows = [f"**{title}.**\n"] if title else []
    rows += [f"| flag | default | what it does |{more}", f"|---|---|---|{'---|' if is_run else ''}"]
    for flag in flags:
        name = flag.name.upper() if flag.positional else f"--{flag.name}"
        has_choices = flag.type is not bool and "one of" in flag.expected
        choices = f" {flag.expected[0].upper()}{flag.expected[1:]}." if has_choices else ""
        text = f"{text_of(flag)}{choices}".replace("|", "\\|").replace("CLASS/*", "CLASS/\\*")
        rows.append(f"| `{name}` | {shown(flag.default)} | {text} |{f' {flag.affects} |' if is_run else ''}")
    return "\n".join(rows) + "\n"


def shown(value: object) -> str:
    """Return a default as the command line spells it."""
    if value is MISSING:
        return "required"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return f"`{' '.join(map(str, value))}`" if value else "(none)"
    return "(none)" if value is None or str(value) == "" else f"`{value}`"


if __name__ == "__main__":
    print(reference())
