"""The door for what a user names: files and folders that may be anything, and may come from anyone.

Whatever is wrong with one of them is a ValueError of one line: the path, what was expected, and the way out.
"""

import errno
import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MAX_BYTES = 1 << 26
"""Of a text, such as a genotype's or a preset's; a larger one is taken for a mistake."""
MAX_DEPTH = 100
"""Lists and objects in one another."""
MAX_DIGITS = 40
"""Of a whole number; a float holds no larger one than 1e308, and no run counts so far."""
MAX_NAME, MAX_PATH = 255, 3800
"""Bytes of a name, and of a path: Linux takes 4095, which leaves room for the names of files below it."""
SHOWN = 300
"""Characters of a value that a message repeats."""
TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Texts and brackets of JSON."""
IN_WORDS = {
    dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip


WAYS_OUT = {
    errno.ENOENT: "look at its spelling",
    errno.ENAMETOOLONG: "shorten it",
    errno.ELOOP: "remove the links that lead in a circle",
}
OF_A_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""Errors that come again with the same path, and with no other."""
OF_THE_MACHINE = {
    errno.EMFILE: "raise the limit, ulimit -n, or lower --num_threads",
    errno.ENFILE: "this machine has no more; end other programs",
    errno.ENOSPC: "make room there, or choose another disk",
    errno.EDQUOT: "make room there, or choose another disk",
    errno.EIO: "look at that disk, or choose another",
    errno.ESTALE: "look at the file server, and start again",
}
"""Errors of any path -> the way out."""


def check_path(path: str | Path, what: str = "") -> None:
    """Check that a path can be one at all, before anything is made for it; what lies there is not looked at.

    `what` is what named it, such as --save. Raises ValueError where a name is too long, holds a NUL, is not UTF-8, or
    can't be spelled in the encoding of this locale.
    """
    text = str(path)
    named = f"{what} {shown(text)}".strip()
    if "\0" in text:
        raise ValueError(f"{what} {shown(ascii(text))}".strip() + " holds a NUL; expected a path: leave that out")
    try:
        encoded = text.encode()
        os.fsencode(text)
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        is_foreign = error.encoding == "utf-8"
        why = "is not UTF-8" if is_foreign else f"can't be spelled in this locale's encoding, {encoding}"
        raise ValueError(
            f"{what} {shown(ascii(text))}".strip()
            + f" {why}; expected a path in UTF-8: rename it, or set LC_ALL=C.UTF-8"
        ) from None
    longest = max(map(len, encoded.split(b"/")))
    if longest > MAX_NAME or len(encoded) > MAX_PATH:
        size = f"a name of {longest} bytes" if longest > MAX_NAME else f"{len(encoded)} bytes"
        raise ValueError(
            f"{named} has {size}; expected a path of at most {MAX_PATH}, and names of at most {MAX_NAME}: shorten it"
        )


def shown(value: object, length: int = SHOWN) -> str:
    """Return a value as a message repeats it: the middle of a long one is left out."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"


def exists(path: Path) -> bool:
    """Whether anything lies there. Raises ValueError where this user may not look, or the path can't be one."""
    return _stat(path) is not None


def is_file(path: Path) -> bool:
    """Whether a regular file lies there; raises ValueError as exists does."""
    found = _stat(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: Path) -> bool:
    """Whether a folder lies there; raises ValueError as exists does."""
    found = _stat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def list_folder(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what lies in a folder, by name, as far as its name fits the pattern; nothing where there is no folder.

    Raises ValueError where this user may not look.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error, "a folder") from None
    return [folder / name for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]


def resolved(path: Path) -> Path:
    """Return a path without links and dots; of links that lead in a circle as much as can be."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a circle


def open_file(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file. Raises ValueError for anything else, such as a pipe or a device, and for a larger one."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, "a file") from None
    found = os.fstat(file.fileno())
    problem = None
    if not stat.S_ISREG(found.st_mode):
        problem = "is a folder, a pipe or a device; expected a file"
    elif limit is not None and found.st_size > limit:
        problem = f"has {found.st_size} bytes; expected at most {limit}"
    if problem is not None:
        file.close()
        raise ValueError(f"{shown(path)} {problem}")
    return file


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return what is in a regular file. Raises ValueError as open_file does."""
    with open_file(path, limit) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size)  # Python reserves as much before it reads
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error, "a file") from None


def read_tail(path: Path, num_bytes: int) -> bytes:
    """Return the end of a regular file of any size. Raises ValueError as open_file does."""
    with open_file(path) as file:
        try:
            file.seek(max(0, os.fstat(file.fileno()).st_size - num_bytes))
            return file.read(num_bytes)
        except OSError as error:
            raise _unreadable(path, error, "a file") from None


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return a regular file's text: UTF-8, with or without a byte order mark. Raises ValueError as read_file does."""
    try:
        return read_file(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown(path)} is not UTF-8 (byte {error.start}); expected text: save it as UTF-8") from None


def read_json(path: Path, expect: type = dict, limit: int = MAX_BYTES) -> Any:
    """Return what a JSON file holds. Raises ValueError as read_text and parse_json do."""
    return parse_json(read_text(path, limit), path, expect)


def parse_json(text: str, source: object, expect: type = dict, line: int = 1) -> Any:
    """Return what a JSON text holds, which must be of the type `expect`: dict, list, or object for any.

    `source` is the file it comes from, and `line` where in it the text begins. Raises ValueError, naming both, for
    anything else, and for more than MAX_DEPTH lists in one another, or a whole number of more than MAX_DIGITS.
    """
    where = f"{shown(source)} line {line}"
    _check_depth(text, where)
    try:
        value = json.loads(text, parse_int=_whole_number)
        if "\\ud" in text.lower():
            "".join(_texts(value)).encode()  # half of a character, which no file or page can hold
    except json.JSONDecodeError as error:
        raise ValueError(f"{shown(source)} line {line + error.lineno - 1}: damaged JSON: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: damaged JSON: {error or type(error).__name__}") from None
    if not isinstance(value, expect):
        raise ValueError(f"{where}: expected a JSON {IN_WORDS[expect].split()[-1]}, not {IN_WORDS[type(value)]}")
    return value


def _texts(value: Any) -> Iterator[str]:
    """Yield every text and key in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def check_inside(name: str, source: str | Path) -> str:
    """Return a relative path that a file holds, if it leads to something inside of the folder it is relative to.

    `source` is that file. Raises ValueError for an absolute path, one with .. in it, and the folder itself.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError(
            f"{source} names {name!r}; expected a path inside its own folder: do not use what this file came with"
        )
    return name


def explained(error: OSError) -> ValueError:
    """Return the line for an error about a path that was opened elsewhere, or about what the machine ran out of.

    Any other one is raised again.
    """
    if error.errno in OF_THE_MACHINE:
        where = f"{shown(error.filename)}: " if isinstance(error.filename, str) else ""
        return ValueError(f"{where}{error.strerror}; {OF_THE_MACHINE[error.errno]}")
    if error.errno not in OF_A_PATH or error.filename is None:
        raise error
    way_out = WAYS_OUT.get(error.errno, "correct that, or name another")
    return ValueError(
        f"{shown(error.filename)}: {error.strerror}; expected a path that this user may use so: {way_out}"
    )


def _stat(path: Path) -> os.stat_result | None:
    """Return what lies at a path, links followed; None where nothing does."""
    try:
        return os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, "a file or folder") from None


def _unreadable(path: Path, error: Exception, expected: str) -> ValueError:
    reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
    way_out = WAYS_OUT.get(getattr(error, "errno", None) or 0, "correct that, or name another")
    return ValueError(f"{shown(path)} can't be read ({reason}); expected {expected} that this user may read: {way_out}")


def _check_depth(text: str, where: str) -> None:
    """Raise ValueError for JSON that is nested deeper than any that this package reads, before it is parsed."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in TOKENS.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth > MAX_DEPTH:
            raise ValueError(f"{where}: damaged JSON: nested deeper than {MAX_DEPTH}")


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; expected at most {MAX_DIGITS}")
    return int(digits)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe without a writer is waited for
