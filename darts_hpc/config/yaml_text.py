"""Flat YAML as it was written: what type a value has is for its flag to say, and YAML would guess it."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from darts_hpc.user_files import shown

MAX_DEPTH = 10
"""Lists and sections in one another."""
MAX_VALUES = 10_000
"""Values of a file, those of an alias counted each time it stands for them."""
NULLS = ("", "~", "null", "Null", "NULL")
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
WHOLE_NUMBER = r"[-+]?(0|[1-9]\d{0,39})"
NUMBER = r"[-+]?((\d+\.\d*|\.\d+)(e[-+]?\d{1,9})?|\d+e[-+]?\d{1,9})"
STRING_TAG = "tag:yaml.org,2002:str"


class Plain(str):
    """A value without quotes, as written: 007, 1.10, no, null."""

    __slots__ = ()


def parse_yaml(text: str, source: object) -> dict[str, Any]:
    """Return the keys of a YAML file and their values: Plain, str where it was quoted, or lists and dicts of them.

    `source` is the file. Raises ValueError, with the line, for what is no YAML, a key that stands twice, tags, and
    what is nested or repeated beyond all measure.
    """
    return _File(text, source).read()


def meaning(value: Any) -> Any:
    """Return a value, lists and dicts included, as YAML 1.1 means it; dates, times and 007 stay as written."""
    if isinstance(value, list):
        return [meaning(item) for item in value]
    if isinstance(value, dict):
        return {key: meaning(item) for key, item in value.items()}
    if not isinstance(value, Plain):
        return value
    if value in NULLS:
        return None
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    if re.fullmatch(WHOLE_NUMBER, value):
        return int(value)
    if re.fullmatch(NUMBER, value, re.IGNORECASE):
        return float(value)
    special = re.fullmatch(r"([-+]?)\.(inf|nan)", value, re.IGNORECASE)
    return float(f"{special[1]}{special[2]}") if special else str(value)


class _File:
    """One file on its way through the parser, whose events are read one by one, so that none grows first."""

    def __init__(self, text: str, source: object):
        self.source = shown(source)
        self.events = self._parsed(text)
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.num_values = 0

    def read(self) -> dict[str, Any]:
        content: Any = None
        for event in self.events:
            match event:
                case yaml.StreamStartEvent() | yaml.StreamEndEvent() | yaml.DocumentEndEvent():
                    pass
                case yaml.DocumentStartEvent():
                    if content is not None:
                        raise self._error(event, "expected one document")
                    content = self._value(next(self.events), 0)
        if content is None or (isinstance(content, Plain) and content in NULLS):
            return {}
        if not isinstance(content, dict):
            raise ValueError(f"{self.source}: expected lines of the form flag: value, such as epochs: 50")
        return content

    def _parsed(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.context_mark or error.problem_mark
            where = f" line {mark.line + 1}" if mark else ""
            raise ValueError(f"{self.source}{where}: not YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # also a character of a number beyond all
            raise ValueError(f"{self.source}: not YAML: {' '.join(str(error).split())}") from None

    def _value(self, event: yaml.Event, depth: int) -> Any:
        """Return the value that begins with an event, and all that is in it."""
        before = self.num_values
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH}; expected lines of the form flag: value")
        match event:
            case yaml.AliasEvent():
                return self._alias(event)
            case yaml.ScalarEvent():
                value = self._scalar(event)
            case yaml.SequenceStartEvent():
                value = [self._value(item, depth + 1) for item in iter(self._next, None)]
            case _:
                value = self._mapping(depth)
        if (anchor := getattr(event, "anchor", None)) is not None:
            self.anchors[anchor] = value, self.num_values - before
        return value

    def _next(self) -> yaml.Event | None:
        """Return the next event of a list or section; None at its end."""
        event = next(self.events)
        return None if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent) else event

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for event in iter(self._next, None):
            key = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise self._error(event, "expected the name of a flag before the colon")
            line = event.start_mark.line + 1
            if key in found:
                raise self._error(event, f"{shown(key)} stands in line {lines[key]} too; expected each key once")
            found[str(key)], lines[key] = self._value(next(self.events), depth + 1), line
        return found

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self.anchors:
            raise self._error(event, f"no anchor &{event.anchor} stands before its alias")
        value, size = self.anchors[event.anchor]
        self._count(event, size)
        return value

    def _scalar(self, event: yaml.ScalarEvent) -> str:
        is_plain, is_text = event.implicit
        if not is_plain and not is_text and event.tag != STRING_TAG:
            raise self._error(event, f"the tag {event.tag} is not read; expected a plain value")
        if not event.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise self._error(event, "half of a character, an escape from \\ud800 to \\udfff; expected text in UTF-8")
        return Plain(event.value) if is_plain else event.value

    def _count(self, event: yaml.Event, size: int) -> None:
        self.num_values += size
        if self.num_values > MAX_VALUES:
            raise self._error(event, f"more than {MAX_VALUES} values, those of aliases counted; expected a flag a line")

    def _error(self, event: yaml.Event, problem: str) -> ValueError:
        return ValueError(f"{self.source} line {event.start_mark.line + 1}: {problem}")
