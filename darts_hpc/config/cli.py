"""Presets and flags become a config. A preset's keys are flags that stand before the user's own, so the user's win."""

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from darts_hpc.config.explain import LISTED, explain_stop, explain_tokens, grouped
from darts_hpc.config.flags import RENAMED_VALUES, Flag, flags_of
from darts_hpc.config.presets import ENTRY, entry_of, read_yaml
from darts_hpc.distributed.launcher import is_first_process, leave_stopped, stop_restarts
from darts_hpc.errors import ExplainedError, Stopped
from darts_hpc.suggest import did_you_mean

Config = TypeVar("Config")

PACKAGE = Path(__file__).parents[1]
PRESET_FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
"""Where shipped presets lie: inside an installed package, or beside it in a checkout."""

PRESET_HELP = "--config FILE.yaml reads a preset, flat YAML whose keys are flag names; flags typed beside it win."


def run_entry(main: Callable[[Config], object], cls: type[Config]) -> None:
    """Run an entry on the config its command line asks for.

    A user's mistake ends in one line and exit code 2, a stop by a signal in 128 + its number.
    """
    try:
        cfg = parse_config(cls)
    except ValueError as error:
        _refuse(error, silent=not is_first_process())  # every rank has the same command line: one says it
    try:
        main(cfg)
    except ValueError as error:
        _refuse(error)
    except Stopped as stop:
        leave_stopped(stop.number)
    except KeyboardInterrupt:
        leave_stopped(signal.SIGINT)
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
    sources = [(f"{file}: ", _read_preset(file, flags, cls)) for file in presets] + [("", typed)]
    sources = [(source, list(_with_new_names(tokens))) for source, tokens in sources]
    args = [token for _, tokens in sources for token in tokens]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro draws a box around its errors
            return _tyro(cls, args)
    except SystemExit as stop:
        if not stop.code:  # a shell completion script was asked for, and printed
            raise
        for source, tokens in sources:
            explain_tokens(tokens, flags, source)
        raise ValueError(explain_stop(stop, flags)) from None


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the last value that flags, or the presets they name, give a flag, before any is checked; None without."""
    presets, typed = _split_presets(argv)
    found = None
    for preset in map(_peek, presets):
        found = str(preset[flag]) if flag in preset else found
    for token, values in grouped(typed):
        if token[2:].replace("-", "_") == flag and values:
            found = values[0]
    return found


def given_flags(argv: Sequence[str] | None = None) -> set[str]:
    """Return the names of the flags that a command line (sys.argv's by default), or a preset it names, sets.

    A value that equals the default counts too, which the parsed config does not show.
    """
    presets, typed = _split_presets(sys.argv[1:] if argv is None else argv)
    from_presets = {key for preset in map(_peek, presets) for key, value in preset.items() if value is not None}
    words = {token[2:].replace("-", "_") for token, _ in grouped(typed)}
    return from_presets | words | {word.removeprefix("no_") for word in words}


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


def _with_new_names(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the tokens, with values that were renamed under their new names."""
    flag = ""
    for token in tokens:
        name, _, value = token.partition("=")
        if token.startswith("--"):
            flag = name[2:].replace("-", "_")
            new = RENAMED_VALUES.get(flag, {}).get(value)
            yield f"{name}={new}" if new else token
        else:
            yield RENAMED_VALUES.get(flag, {}).get(token, token)


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
    raise ValueError(f"--config {file}: no such file; {did_you_mean(file, shipped)}")


def _peek(file: str) -> dict[str, Any]:
    """Return what a preset says, unchecked; nothing for one that can't be read, which is said when it is parsed."""
    with contextlib.suppress(ValueError):
        return read_yaml(_find_preset(file))
    return {}


def _read_preset(file: str, flags: dict[str, Flag], cls: type) -> list[str]:
    """Spell a preset as command-line tokens."""
    path = _find_preset(file)
    try:
        preset = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"--config {error}") from None
    written_by = preset.pop(ENTRY, None)
    if written_by not in (None, entry_of(cls)):
        own = f"{entry_of(cls) or Path(sys.argv[0]).stem}'s"
        raise ValueError(f"--config {file}: these are flags of {written_by}; expected a preset of {own} flags")
    return [token for key, value in preset.items() for token in _preset_tokens(file, key, value, flags)]


def _preset_tokens(file: str, key: str, value: Any, flags: dict[str, Flag]) -> list[str]:
    known = [name for name, flag in flags.items() if not flag.positional]
    if key not in known:
        raise ValueError(f"{file}: unknown key {key}; {did_you_mean(key, known, LISTED)}")
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
