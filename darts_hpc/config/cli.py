"""Presets and flags become a config. A preset's keys are flags that stand before the user's own, so the user's win."""

import contextlib
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import tyro

from darts_hpc import __version__
from darts_hpc.allocator import keep_freed_memory
from darts_hpc.config.explain import LISTED, check_words, explain_stop, explain_tokens, grouped
from darts_hpc.config.flags import RENAMED_VALUES, Flag, flags_of
from darts_hpc.config.help import show_help
from darts_hpc.config.presets import ENTRY, entry_of, read_yaml
from darts_hpc.config.program import program, spelled
from darts_hpc.config.yaml_text import Plain, meaning
from darts_hpc.distributed.launcher import is_first_process, leave_stopped, stop_restarts
from darts_hpc.errors import ExplainedError, Stopped
from darts_hpc.imports import import_lasting
from darts_hpc.openmp import bound_spinning
from darts_hpc.suggest import did_you_mean
from darts_hpc.terminal import outlive_terminal
from darts_hpc.user_files import check_path, exists, explained, shown

Config = TypeVar("Config")

PACKAGE = Path(__file__).parents[1]
PRESET_FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
"""Where shipped presets lie: inside an installed package, or beside it in a checkout."""

LONGEST_LINE = 3000
"""Characters of what is wrong; a file's content may stand in it."""


def run_entry(
    main: Callable[[Config], Any],
    cls: type[Config],
    *,
    action: str = "",
    about: str = "",
    check: Callable[[Config], object] = lambda cfg: None,
    imports_torch: bool = True,
    next_command: Callable[[Config, str], str] | None = None,
) -> None:
    """Run an entry on the config its command line asks for.

    A user's mistake ends in one line and exit code 2, a stop by a signal in 128 + its number.

    Args:
        main: the command; it imports what it needs, torch above all, when it is called.
        cls: its flags.
        action: a word between the command and its flags, as of campaign status.
        about: what it does, for --help; the class's docstring by default.
        check: raises ValueError for a value that can be refused without torch.
        imports_torch: whether it takes seconds until the first line, which is announced.
        next_command: from the config and the text of what main returns, such as the run folder, what to type next, such
            as "train --arch runs/x"; empty for nothing.
    """
    is_first = is_first_process()
    typed = " ".join(filter(None, (program(), action)))
    outlive_terminal()
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        refuse(ValueError("the folder that this was started in was removed; change to another"), silent=not is_first)
    try:
        with quiet_when_the_reader_leaves():
            if _is_asked_for(("-h", "--help")):
                return show_help(cls, typed, about or cls.__doc__ or "")
            if _is_asked_for(("--version",)):
                return print(f"darts_hpc {__version__}", flush=True)
        cfg = parse_config(cls)
        check(cfg)
    except ValueError as error:
        refuse(error, silent=not is_first)  # every rank has the same command line: one says it
    except OSError as error:
        refuse(explained(error), silent=not is_first)
    except KeyboardInterrupt:
        leave_stopped(signal.SIGINT)
    if imports_torch and "torch" not in sys.modules:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings have the form of tracebacks
        keep_freed_memory()
        bound_spinning()  # not for a campaign, whose jobs would take it for the user's own
        if is_first:
            print(f"{typed}: starting; importing torch takes some seconds", file=sys.stderr, flush=True)
    try:
        with quiet_when_the_reader_leaves():
            if imports_torch:
                import_lasting("torch")
            result = main(cfg)
    except ValueError as error:
        refuse(error)
    except OSError as error:
        refuse(explained(error))
    except Stopped as stop:
        leave_stopped(stop.number)
    except KeyboardInterrupt:
        leave_stopped(signal.SIGINT)
    if next_command is not None and is_first and (command := next_command(cfg, shlex.quote(str(result)))):
        print("next:", spelled(command), file=sys.stderr, flush=True)


def refuse(error: ValueError, silent: bool = False) -> NoReturn:
    """End with a user's mistake, in one line, and exit code 2."""
    if not silent:
        print("error:", shown(" ".join(str(error).split()), LONGEST_LINE), file=sys.stderr)
        if isinstance(error, ExplainedError):
            print(error.explanation, file=sys.stderr)
        sys.stderr.flush()
        stop_restarts()
    sys.exit(2)


@contextlib.contextmanager
def quiet_when_the_reader_leaves() -> Iterator[None]:
    """End without a traceback, with 141 as a shell counts SIGPIPE, where stdout is read no more."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough; keep Python from flushing into the void
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _is_asked_for(flags: Sequence[str]) -> bool:
    return any(token in flags for token in sys.argv[1:])


def parse_config(cls: type[Config], argv: Sequence[str] | None = None) -> Config:
    """Build a config from flags (sys.argv's by default) and the presets that --config names.

    Raises ValueError, one line, for an unknown flag or key, a bad value, or values that contradict each other.
    """
    presets, typed = _split_presets(sys.argv[1:] if argv is None else argv)
    flags = flags_of(cls)
    sources = [(f"{file}: ", _read_preset(file, flags, cls)) for file in presets] + [("", typed)]
    sources = [(source, [_home_expanded(token) for token in _with_new_names(tokens)]) for source, tokens in sources]
    for source, tokens in sources:
        check_words(tokens, flags, source)
    args = [token for _, tokens in sources for token in tokens]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro draws a box around its errors
            cfg = _tyro(cls, args)
    except SystemExit as stop:
        for source, tokens in sources:
            explain_tokens(tokens, flags, source)
        raise ValueError(explain_stop(stop, flags)) from None
    for name in [name for name, flag in flags.items() if flag.positional and flag.is_path]:
        value = getattr(cfg, name)
        for path in value if isinstance(value, tuple) else (value,):
            check_path(path)
    return cfg


def presets_given() -> list[str]:
    """Return the presets that this process's command line names."""
    return _split_presets(sys.argv[1:])[0]


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the last value that flags, or the presets they name, give a flag, before any is checked; None without."""
    presets, typed = _split_presets(argv)
    found = None
    for preset in map(_peek, presets):
        found = str(preset[flag]) if meaning(preset.get(flag)) is not None else found
    for token, values in grouped(typed):
        if token[2:].replace("-", "_") == flag and values:
            found = values[0]
    return found


def given_flags(argv: Sequence[str] | None = None) -> set[str]:
    """Return the names of the flags that a command line (sys.argv's by default), or a preset it names, sets.

    A value that equals the default counts too, which the parsed config does not show.
    """
    presets, typed = _split_presets(sys.argv[1:] if argv is None else argv)
    values = {key: meaning(value) for preset in map(_peek, presets) for key, value in preset.items()}
    from_presets = {key for key, value in values.items() if value is not None}
    words = {token[2:].replace("-", "_") for token, _ in grouped(typed)}
    return from_presets | words | {word.removeprefix("no_") for word in words}


def _tyro(cls: type[Config], args: list[str]) -> Config:
    return tyro.cli(
        cls,
        args=args,
        add_help=False,
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


def _home_expanded(token: str) -> str:
    """Return a token with the home folder for a ~ before its value: a shell does so for a word of its own only."""
    name, equals, value = token.partition("=")
    if not token.startswith("-") or not equals:
        name, equals, value = "", "", token
    return name + equals + os.path.expanduser(value)  # noqa: PTH111 - Path's fails where there is no home


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
        presets.append(_home_expanded(file))
    return presets, typed


def shipped_presets() -> dict[str, Path]:
    """Return the presets that come with the package, by how --config may name them from anywhere."""
    return {
        f"configs/{path.relative_to(folder).as_posix()}": path
        for folder in reversed(PRESET_FOLDERS)
        for path in sorted(folder.glob("*/*.yaml"))
    }


def find_preset(file: str) -> Path:
    """Find a preset where its path says, else among the shipped ones. Raises ValueError, with the nearest name."""
    check_path(file, "--config")
    if exists(Path(file)):
        return Path(file)
    shipped = shipped_presets()
    if file in shipped:
        return shipped[file]
    raise ValueError(f"--config {file}: no such file; {did_you_mean(file, shipped)}")


def _peek(file: str) -> dict[str, Any]:
    """Return what a preset says, unchecked; nothing for one that can't be read, which is said when it is parsed."""
    with contextlib.suppress(ValueError):
        return read_yaml(find_preset(file))
    return {}


def _read_preset(file: str, flags: dict[str, Flag], cls: type) -> list[str]:
    """Spell a preset as command-line tokens."""
    path = find_preset(file)
    try:
        preset = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"--config {error}") from None
    written_by = meaning(preset.pop(ENTRY, None))
    if written_by not in (None, entry_of(cls)):
        own = f"{entry_of(cls) or Path(sys.argv[0]).stem}'s"
        raise ValueError(f"--config {file}: these are flags of {shown(written_by)}; expected a preset of {own} flags")
    return [token for key, value in preset.items() for token in _preset_tokens(file, key, value, flags)]


def _preset_tokens(file: str, key: str, value: Any, flags: dict[str, Flag]) -> list[str]:
    """Spell a key and its value, as it was written, as tokens: the flag says what type it is."""
    known = [name for name, flag in flags.items() if not flag.positional]
    if key not in known:
        raise ValueError(f"{file}: unknown key {shown(key)}; {did_you_mean(key[:100], known, LISTED)}")
    flag = flags[key]
    if isinstance(value, Plain) and meaning(value) is None:
        return []
    if isinstance(value, list) and flag.is_list:
        return [f"--{key}", *(_list_item(file, key, item, flag) for item in value)]
    if not isinstance(value, str):
        what = shown(meaning(value))
        raise ValueError(f"{file}: {key}: {what}: expected {flag.expected}, not a list or a section")
    if flag.type is not bool:
        return [f"--{key}={value}"]
    if not isinstance(is_on := meaning(value), bool):
        raise ValueError(f"{file}: {key}: {shown(value)}: expected true or false")
    return [f"--{key}" if is_on else f"--no_{key}"]


def _list_item(file: str, key: str, item: Any, flag: Flag) -> str:
    """Spell an item of a list; YAML reads a text such as `beta: --alpha_regulariser beta` as a pair."""
    pair = list(item.items()) if isinstance(item, dict) else []
    if len(pair) == 1 and get_args(flag.type)[0] is str and isinstance(pair[0][1], str):
        name, value = pair[0]
        return f"{name}: {'' if meaning(value) is None else value}".strip()
    if not isinstance(item, str) or (isinstance(item, Plain) and meaning(item) is None):
        raise ValueError(f"{file}: {key}: {shown(meaning(item))}: expected {flag.expected}, not a list or a section")
    return str(item)
