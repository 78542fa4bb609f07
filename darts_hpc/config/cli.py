"""Presets and flags become a config. A preset's keys are flags that stand before the user's own, so the user's win."""

import contextlib
import difflib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
import yaml

from darts_hpc.config.schema import flat
from darts_hpc.distributed.launcher import is_first_process, stop_restarts
from darts_hpc.errors import ExplainedError

Config = TypeVar("Config")

PACKAGE = Path(__file__).parents[1]
PRESET_FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
"""Where shipped presets lie: inside an installed package, or beside it in a checkout."""

PRESET_HELP = "--config FILE.yaml reads a preset, flat YAML whose keys are flag names; flags typed beside it win."


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


def run_entry(main: Callable[[Config], object], cls: type[Config]) -> None:
    """Run an entry on the config its command line asks for; a user's mistake ends in one line and exit code 2."""
    try:
        cfg = parse_config(cls)
    except ValueError as error:
        _refuse(error, silent=not is_first_process())  # every rank has the same command line: one says it
    try:
        main(cfg)
    except ValueError as error:
        _refuse(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough; keep Python from flushing into the void
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _refuse(error: ValueError, silent: bool = False) -> NoReturn:
    if not silent:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        if isinstance(error, ExplainedError):
            print(error.explanation, file=sys.stderr)
        sys.stderr.flush()
        stop_restarts()
    sys.exit(2)


def parse_config(cls: type[Config], argv: Sequence[str] | None = None) -> Config:
    """Build a config from flags (sys.argv's by default) and the presets that --config names.

    Raises ValueError, one line, for an unknown flag or key, a bad value, or values that contradict each other.
    """
    presets, typed = _split_presets(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(typed):
        return _tyro(cls, ["--help"])
    flags = flags_of(cls)
    sources = [(f"{file}: ", _read_preset(file, flags)) for file in presets] + [("", typed)]
    args = [token for _, tokens in sources for token in tokens]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro draws a box around its errors
            return _tyro(cls, args)
    except SystemExit as stop:
        if not stop.code:  # a shell completion script was asked for, and printed
            raise
        for source, tokens in sources:
            _explain_tokens(tokens, flags, source)
        raise ValueError(_explain_stop(stop, flags)) from None


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the last value that flags, or the presets they name, give a flag, before any is checked; None without."""
    presets, typed = _split_presets(argv)
    found = None
    for preset in map(_peek, presets):
        found = str(preset[flag]) if flag in preset else found
    for token, values in _grouped(typed):
        if token[2:].replace("-", "_") == flag and values:
            found = values[0]
    return found


def given_flags(argv: Sequence[str] | None = None) -> set[str]:
    """Return the names of the flags that a command line (sys.argv's by default), or a preset it names, sets.

    A value that equals the default counts too, which the parsed config no longer tells.
    """
    presets, typed = _split_presets(sys.argv[1:] if argv is None else argv)
    from_presets = {key for preset in map(_peek, presets) for key, value in preset.items() if value is not None}
    words = {token[2:].replace("-", "_") for token, _ in _grouped(typed)}
    return from_presets | words | {word.removeprefix("no_") for word in words}


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


def to_yaml(cfg: Any, header: str) -> str:
    """Write a config as a preset that --config reads back to an equal one; the header becomes its first comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + yaml.safe_dump(flat(cfg), sort_keys=False, allow_unicode=True)


def _tyro(cls: type[Config], args: list[str]) -> Config:
    return tyro.cli(
        cls,
        args=args,
        prog=f"python -m darts_hpc.{Path(sys.argv[0]).stem}",
        description=f"{cls.__doc__}\n{PRESET_HELP}",
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.PositionalRequiredArgs,
            tyro.conf.PositionalMetavarFromFieldName,
        ),
        use_underscores=True,
    )


def _split_presets(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take every --config FILE and --config=FILE out of the tokens; return the files and the other tokens."""
    presets, typed, tokens = [], [], iter(argv)
    for token in tokens:
        if re.match(r"--\S+ ", token) and typed and re.fullmatch(r"--[\w-]+", typed[-1]):
            typed[-1] += f"={token}"  # flags in one word are a value, as in --search_flags "--epochs 4"
            continue
        if token.partition("=")[0] != "--config":
            typed.append(token)
            continue
        file = token.partition("=")[2] or next(tokens, "")
        if not file or file.startswith("--"):
            raise ValueError("--config: expected a preset file, such as configs/search/digits.yaml")
        presets.append(file)
    return presets, typed


def _find_preset(file: str) -> Path:
    """Find a preset where its path says, else among the shipped ones."""
    shipped = {
        f"configs/{path.relative_to(folder).as_posix()}": path
        for folder in reversed(PRESET_FOLDERS)
        for path in sorted(folder.glob("*/*.yaml"))
    }
    if Path(file).is_file():
        return Path(file)
    if file in shipped:
        return shipped[file]
    near = difflib.get_close_matches(file, shipped, n=3, cutoff=0.4) or sorted(shipped)
    raise ValueError(f"--config {file}: no such file; near ones that ship with the package: {', '.join(near)}")


def _peek(file: str) -> dict[str, Any]:
    """Return what a preset says, unchecked; nothing for one that can't be read, which is said when it is parsed."""
    with contextlib.suppress(ValueError, yaml.YAMLError, OSError):
        preset = yaml.safe_load(_find_preset(file).read_text(encoding="utf-8"))
        return preset if isinstance(preset, dict) else {}
    return {}


def _read_preset(file: str, flags: dict[str, Flag]) -> list[str]:
    """Spell a preset as command-line tokens."""
    try:
        preset = yaml.safe_load(_find_preset(file).read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"--config {file}: not YAML: {where}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"--config {file}: can't be read: {error}") from None
    if not isinstance(preset, dict):
        raise ValueError(f"--config {file}: expected lines of the form flag: value, such as epochs: 50")
    return [token for key, value in preset.items() for token in _preset_tokens(file, str(key), value, flags)]


def _preset_tokens(file: str, key: str, value: Any, flags: dict[str, Flag]) -> list[str]:
    if key not in flags or flags[key].positional:
        raise ValueError(f"{file}: unknown key {key}{_nearest(key, [n for n in flags if not flags[n].positional])}")
    flag = flags[key]
    if value is None:
        return []
    if (flag.type is bool) != isinstance(value, bool):
        raise ValueError(
            f"{file}: {key}: {value!r}: expected {'true or false' if flag.type is bool else flag.expected}"
        )
    if flag.type is bool:
        return [f"--{key}" if value else f"--no_{key}"]
    if isinstance(value, list) and flag.is_list:
        return [f"--{key}", *map(str, value)]
    if isinstance(value, list | dict):
        raise ValueError(f"{file}: {key}: {value!r}: expected {flag.expected}, not a list or a section")
    return [f"--{key}={value}"]


def _explain_tokens(tokens: Sequence[str], flags: dict[str, Flag], source: str) -> None:
    """Raise ValueError for the first unknown flag, bad value or superfluous word among the tokens."""
    spellings = {f"--{name}": flag for name, flag in flags.items() if not flag.positional}
    spellings |= {f"--no_{name}": flag for name, flag in flags.items() if flag.type is bool}
    num_words = sum(math.inf if flag.is_list else 1 for flag in flags.values() if flag.positional)
    for token, values in _grouped(tokens):
        flag = spellings.get("--" + token[2:].replace("-", "_"))
        if token and not flag:
            raise ValueError(f"{source}unknown flag {token}{_nearest(token, [*spellings, '--config'])}")
        num_values = 0 if flag is None or flag.type is bool else len(values) if flag.is_list else 1
        if flag and num_values and not values:
            raise ValueError(f"{source}{token}: expected {flag.expected}")
        for value in values[:num_values]:
            if flag and not _accepts(flag, value):
                raise ValueError(f"{source}{f'{token} {value}'.strip()}: expected {flag.expected}")
        num_words -= len(values) - num_values
        if num_words < 0:
            hint = f"; write --{flag.name} or --no_{flag.name}" if flag and flag.type is bool else ""
            raise ValueError(f"{source}unexpected {values[-1]!r} after {token or 'the command'}{hint}")


def _grouped(tokens: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
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
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tyro.cli(flag.type, args=[value])
    except SystemExit:
        return False
    return True


def _explain_stop(stop: SystemExit, flags: dict[str, Flag]) -> str:
    """Find the line behind tyro's exit: the ValueError of a config's own checks, or a missing word."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValueError):
        cause = cause.__cause__ or cause.__context__
    missing = " and ".join(name.upper() for name, flag in flags.items() if flag.positional)
    return str(cause) if cause else f"expected {missing or 'other flags'}; --help shows how"


def _nearest(name: str, known: Iterable[str]) -> str:
    known = {word.strip("-"): word for word in known}
    near = difflib.get_close_matches(name.strip("-").replace("-", "_"), known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else "; --help lists the known ones"
