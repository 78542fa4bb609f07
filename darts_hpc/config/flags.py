"""Every flag of a config: its name, its type, what its value looks like and what it affects."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from darts_hpc import strict_json

AFFECTS = {
    "numbers": "what is computed: another value is another configuration, which never continues this one's checkpoint",
    "named": "as numbers, but what the value names is compared: the cell of --arch, the flags in a preset's file",
    "batches": "as numbers, but a checkpoint may be continued: with other processes, by the same global batch",
    "last_bits": "rounding alone: the same configuration, and a checkpoint is continued with a warning",
    "member": "which run of a configuration it is: the same configuration, whose runs don't continue each other",
    "nothing": "where a run lies and runs, what it may take, and how often it reports and saves: never compared",
}
"""What a flag may affect. A checkpoint (run.fingerprint), a report (reporting.groups) and a campaign's folder
(campaigns.folder) compare configurations by it."""


def flag(default: Any, *, affects: str = "numbers", unused: bool = False, path: bool = False) -> Any:
    """Return a config's field that affects something else than the numbers, which is what a plain default does.

    `unused` is for what the original scripts take, and has no effect: --help lists it at the end. `path` says that a
    text names a file or folder, or a part of its name.
    """
    assert affects in AFFECTS, affects
    return field(default=default, metadata={"affects": affects, "unused": unused, "path": path})


RENAMED_VALUES = {"supernet": {"stacked": "fast", "fused": "fast"}}
"""flag -> earlier name of a value -> its name now. Presets and the config.yaml of old runs may have the earlier one."""


@dataclass(frozen=True)
class Flag:
    """One flag of a config. `owner` is the class whose field it is; `default` is MISSING where a value is required.
    `affects` is a key of AFFECTS."""

    name: str
    type: Any
    owner: Any
    default: Any
    affects: str = "numbers"
    unused: bool = False
    path: bool = False

    @property
    def is_path(self) -> bool:
        """Whether its values are paths."""
        return self.path or self.type is Path or Path in get_args(self.type)

    @property
    def positional(self) -> bool:
        """Whether it is a bare word on the command line, which is required."""
        return self.default is MISSING

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
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if is_dataclass(hints[item.name]):
            section = flags_of(hints[item.name])  # whose defaults the class may replace
            flags |= {name: replace(flag, default=getattr(default, name)) for name, flag in section.items()}
        else:
            flags[item.name] = Flag(item.name, hints[item.name], cls, default, **item.metadata)
    return flags


def affecting(cls: type, *affects: str) -> set[str]:
    """Return the names of a config class's flags that affect one of these, keys of AFFECTS."""
    return {name for name, flag in flags_of(cls).items() if flag.affects in affects}


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


def spell(value: object) -> str:
    """Spell a flag's value as config.yaml does: true, null, [0, 1]."""
    return value if isinstance(value, str) else strict_json.dumps(value)
