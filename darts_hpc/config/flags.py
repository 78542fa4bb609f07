"""Every flag of a config: its name, its type and what its value looks like."""

from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Flag:
    """One flag of a config: its name, its type, and whether it is a bare word on the command line."""

    name: str
    type: Any
    positional: bool

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.type) is tuple

    @property
    def expected(self) -> str:
        """What a value of it should look like, in words."""
        kinds = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
        optional = get_origin(self.type) in (Union, UnionType)
        kind = get_args(self.type)[0] if optional or self.is_list else self.type
        words = f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else kinds[kind]
        return f"{words}, or None" if optional else words


def flags_of(cls: type) -> dict[str, Flag]:
    """Every flag of a config class by its name, in the order of --help."""
    hints = get_type_hints(cls)
    flags = {}
    for item in fields(cls):
        if is_dataclass(hints[item.name]):
            flags |= flags_of(hints[item.name])
        else:
            required = item.default is MISSING and item.default_factory is MISSING
            flags[item.name] = Flag(item.name, hints[item.name], positional=required)
    return flags


def flat(cfg: Any) -> dict[str, Any]:
    """Spell a config as flag name -> plain value (numbers, texts, lists, None)."""
    values = {}
    for item in fields(cfg):
        value = getattr(cfg, item.name)
        if is_dataclass(value):
            values |= flat(value)
        elif isinstance(value, tuple):
            values[item.name] = [str(element) for element in value]
        else:
            values[item.name] = str(value) if isinstance(value, Path) else value
    return values
