"""Whether what stands in a run's files is as a run writes it: another program's file is refused, not stumbled over."""

from collections.abc import Mapping, Sequence
from typing import Any

NUMBER = (int, float)
CELL = (dict, str)
IN_WORDS = {
    int: "a whole number", NUMBER: "a number", str: "a text", dict: "an object", list: "a list", CELL: "a genotype",
}  # fmt: skip
POSITIONED = {"epoch": int, "step": int}
"""What each line of metrics.jsonl and performance.jsonl must have."""
HISTORY = {"genotype": CELL}
"""What each line of genotypes.jsonl must have."""
RESULT = {"epochs": int, "final": dict, "seconds": NUMBER}
"""What result.json of a finished run must have for its progress."""
KNOWN = {
    "event": str, "device": str, "collapse": str, "when": str, "cell": str, "final": dict, "preprocessing": dict,
    "fingerprint": dict, "edges": list, "accuracy_without": list, "loss_without": list, "classes": list,
    "image_size": int, "num_epochs": int, "processes": int, "learning_rate": NUMBER, "eigenvalue": NUMBER,
    "eigenvalue_average": NUMBER, "eigenvalue_rise": NUMBER, "skip_connects": NUMBER, "early_stop": str,
}  # fmt: skip
"""The type of what else a run's files may have, and this package reads."""
MEASURED = ("train/", "valid/", "test/", "performance/", "entropy/", "grad_norm/", "perturbation/", "schedule/")
TABLES = ("alphas/",)


def check_types(found: Mapping[str, Any], where: str, required: Mapping[str, Any] | None = None) -> None:
    """Raise ValueError, which begins with `where`, if a value that is read has another type, or a required one lacks.

    None stands for a number that was not finite, or for what there is not.
    """
    for name, kind in (required or {}).items():
        if not _is(found.get(name), kind):
            raise ValueError(f"{where}: expected a JSON object with {name!r}, {IN_WORDS[kind]}")
    for name, value in found.items():
        kind = NUMBER if name.startswith(MEASURED) else KNOWN.get(name)
        if kind is not None and value is not None and not _is(value, kind):
            raise ValueError(f"{where}: expected {IN_WORDS[kind]} for {name!r}")
        if name.startswith(TABLES) and not _is_table(value):
            raise ValueError(f"{where}: expected a table of numbers for {name!r}")
        if name.startswith("edge_weights/") and not (value and _is_table([value])):
            raise ValueError(f"{where}: expected a list of numbers for {name!r}")
        if name == "edges" and not (value and all(_is(edge, int) and 0 <= edge < 1000 for edge in value)):
            raise ValueError(f"{where}: expected numbers of edges for {name!r}")
        if name in ("accuracy_without", "loss_without") and not all(_is(score, NUMBER) for score in value or ()):
            raise ValueError(f"{where}: expected numbers for {name!r}")
    if _is(found.get("preprocessing"), dict):
        check_types(found["preprocessing"], where, {"image_size": int})


def check_space(space: Mapping[str, Any], where: str) -> None:
    """Raise ValueError, which begins with `where`, for what are no lists of operations' names."""
    for name in ("primitives", "normal", "reduce"):
        edges = [space.get(name, [])] if name == "primitives" else space.get(name, [])
        is_table = isinstance(edges, list) and all(isinstance(names, list) for names in edges)
        if not is_table or not all(isinstance(item, str) for names in edges for item in names):
            raise ValueError(f"{where}: expected lists of operations for {name!r}")
    if not isinstance(space.get("weights", ""), str):
        raise ValueError(f"{where}: expected a text for 'weights'")


def _is(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_table(value: object) -> bool:
    """Whether these are rows of equally many numbers, or of nulls for those that are not finite."""
    if not isinstance(value, Sequence) or not value or not all(isinstance(row, list) and row for row in value):
        return False
    return len({len(row) for row in value}) == 1 and all(_is(x, NUMBER) or x is None for row in value for x in row)
