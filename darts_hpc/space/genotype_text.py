"""Genotypes as people have them: a line of a log, a Python file, JSON of a run. Text is parsed, never evaluated."""

import ast
import json
import re
from collections.abc import Iterator, Mapping

MAX_CHARACTERS = 1_000_000
LONGEST_CALL = 50_000
LARGEST = 100
"""Number that stands in a genotype; a cell of a hundred nodes is taken for a mistake."""
DEEPEST = 8
"""Mappings that a genotype may lie in, one within the other."""
CALLED = "Genotype"
OTHER_LIBRARIES = {
    "NNI's": r"(normal|reduce)(_n\d+_(p\d+|switch)|/(op|input)_\d+_\d+)$",
    "ConfigSpace's, as NAS-Bench-301 has it,": r"(\w+:\w+:)?(edge|inputs_node)_(normal|reduce)_\d+$",
}
"""Whose choice of a cell has such keys."""


def fields_of(source: str | Mapping) -> Mapping:
    """Return the fields of a genotype, as literals: from a mapping, JSON (also lines of it), or Python text.

    Raises ValueError, one line, for anything else, and for more than one genotype.
    """
    fields = _fields_of_text(source) if isinstance(source, str) else source
    for _ in range(DEEPEST):
        if not isinstance(fields, Mapping) or "genotype" not in fields or "normal" in fields:
            break
        inner = fields["genotype"]  # a line of genotypes.jsonl, or a result.json
        fields = _fields_of_text(inner) if isinstance(inner, str) else inner
    if not isinstance(fields, Mapping):
        raise ValueError(f"genotype must be a mapping with normal, normal_concat, ..., got {shortened(fields)}")
    names = [*fields, *(name for inner in fields.values() if isinstance(inner, Mapping) for name in inner)]
    for library, keys in OTHER_LIBRARIES.items():
        if any(isinstance(name, str) and re.match(keys, name) for name in names):
            raise ValueError(
                f"this is {library} choice of operations by edge; expected Genotype(normal=[(operation, input), ...], "
                "normal_concat=[...], reduce=[...], reduce_concat=[...]): write the two strongest edges of each node so"
            )
    return fields


def is_text(name_or_text: str) -> bool:
    """Whether this is a genotype itself, and not the name of one or of a file."""
    return f"{CALLED}(" in name_or_text or name_or_text.lstrip("\ufeff \t\r\n").startswith("{")


def _fields_of_text(text: str) -> object:
    text = text.removeprefix("\ufeff").strip()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"genotype text of {len(text)} characters; expected at most {MAX_CHARACTERS}")
    if text.startswith(("{", "[")):
        try:
            return _mapping_of_text(text)
        except ValueError:
            if f"{CALLED}(" not in text:  # such as a log's line, after a date in brackets
                raise
    try:
        found = {"".join(map(ast.dump, (*call.args, *call.keywords))): call for call in _calls(text)}
    except RecursionError:
        raise ValueError(f"genotype is nested too deeply: {shortened(text)}") from None
    if not found:
        raise ValueError(
            "genotype is neither JSON nor text with Genotype(normal=..., normal_concat=..., reduce=..., "
            "reduce_concat=...)"
        )
    if len(found) > 1:
        raise ValueError(f"genotype text holds {len(found)} different ones; give the line of one of them")
    (call,) = found.values()
    named = dict(zip(("normal", "normal_concat", "reduce", "reduce_concat"), call.args, strict=False))
    named |= {keyword.arg or "**": keyword.value for keyword in call.keywords}
    return {name: _value(name, node) for name, node in named.items()}


def _mapping_of_text(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("genotype is nested too deeply") from None
    except ValueError as error:
        problem = error
    try:  # genotypes.jsonl: its last line is the final cell
        return json.loads(text.splitlines()[-1])
    except (ValueError, RecursionError):
        pass
    try:  # a Python dict, as forks print it
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"genotype is not valid JSON: {problem}") from None


def _calls(text: str) -> Iterator[ast.Call]:
    """Yield the calls of Genotype in a Python file, or in text of any other kind, such as a log."""
    module = _parsed(text)
    calls = [node for node in ast.walk(module) if _name_of(node) == CALLED] if module is not None else []
    if calls:
        yield from calls  # pyright: ignore[reportReturnType]
        return
    start = text.find(f"{CALLED}(")
    while start >= 0:
        end = _end_of_call(text, start)
        call = _parsed(text[start:end])
        if call is not None and isinstance(line := call.body[0], ast.Expr) and _name_of(line.value) == CALLED:
            yield line.value  # pyright: ignore[reportReturnType]
        start = text.find(f"{CALLED}(", end)


def _end_of_call(text: str, start: int) -> int:
    """Return where the bracket that opens after `start` is closed; the end of the text, if that is too far away."""
    depth = 0
    for end in range(start, min(len(text), start + LONGEST_CALL)):
        depth += (text[end] in "([{") - (text[end] in ")]}")
        if text[end] == ")" and depth == 0:
            return end + 1
    return len(text)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _name_of(node: ast.AST) -> str:
    """Return what a call calls, without the modules before it: np.int64(0) -> int64."""
    if not isinstance(node, ast.Call):
        return ""
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _value(field: str, node: ast.expr) -> object:
    """Return a literal, in which range, list, tuple, and arrays, texts and integers of numpy and torch may stand."""
    if isinstance(node, ast.List | ast.Tuple):
        return [each for element in node.elts for each in _elements(field, element)]
    if isinstance(node, ast.Call) and all(keyword.arg in ("dtype", "device") for keyword in node.keywords):
        arguments = [_value(field, argument) for argument in node.args]
        match _name_of(node), arguments:
            case (("list" | "tuple" | "array" | "tensor"), [list() as states]):
                return states
            case (("range" | "arange"), [*numbers]) if _is_range(numbers):
                return list(range(*numbers))  # pyright: ignore[reportArgumentType, reportCallIssue] - see _is_range
            case (("str" | "str_"), [str(name)]):
                return name
            case name, [int(number)] if re.fullmatch(r"int\d*|uint\d+|intp|tensor", name):
                return number
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(
            f"genotype {field}: {_text_of(node)} is not a list of values, or a range up to {LARGEST}"
        ) from None


def _elements(field: str, node: ast.expr) -> list:
    """Return what an element of a list stands for: *range(2, 6) for four."""
    if not isinstance(node, ast.Starred):
        return [_value(field, node)]
    states = _value(field, node.value)
    if not isinstance(states, list):
        raise ValueError(f"genotype {field}: {_text_of(node)} is no list")
    return states


def _text_of(node: ast.expr) -> str:
    try:
        return shortened(ast.unparse(node))
    except RecursionError:
        return "what is nested so deeply"


def _is_range(numbers: list) -> bool:
    return 1 <= len(numbers) <= 3 and all(map(_is_small, numbers)) and numbers[2:] != [0]


def _is_small(number: object) -> bool:
    return type(number) is int and abs(number) <= LARGEST


def shortened(value: object) -> str:
    """Return a value for an error, which is one line however long the value is."""
    text = repr(value[:100] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= 100 else f"{text[:100]}..."
