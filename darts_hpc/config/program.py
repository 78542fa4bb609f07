"""How this program was started, and how its other commands are spelled to whoever started it so."""

import sys
from pathlib import Path

MODULES = {"search": "train_search"}
"""Commands whose module has another name."""
started_as = ""
"""What was typed before the flags, such as darts search, where the list of commands started this one."""


def program() -> str:
    """Return what is typed before the flags: darts search, or python -m darts_hpc.train_search."""
    return started_as or f"python -m darts_hpc.{Path(sys.argv[0]).stem}"


def spelled(command: str) -> str:
    """Spell another command, with its flags, in the way this one was started."""
    name, _, flags = command.partition(" ")
    if started_as:
        return f"{started_as.rpartition(' ')[0]} {name} {flags}".rstrip()
    return f"python -m darts_hpc.{MODULES.get(name, name)} {flags}".rstrip()
