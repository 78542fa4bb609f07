"""JSON without NaN and infinity, whoever writes it."""

import ast
import json
import math
from pathlib import Path
from types import MappingProxyType

from darts_hpc.strict_json import dumps

PACKAGE = Path(__file__).parents[2] / "darts_hpc"
WRITERS = {"strict_json.py", "genotypes.py", "checkpoint.py", "groups.py"}  # the last one only compares
"""strict_json itself, cells, which have no floats, and a digest that no one reads as JSON."""


def test_what_is_not_finite_becomes_null_at_any_depth():
    value = {"a": math.nan, "b": [1.5, (math.inf, -math.inf)], "c": MappingProxyType({"d": math.nan}), "e": "nan"}
    assert dumps(value) == '{"a": null, "b": [1.5, [null, null]], "c": {"d": null}, "e": "nan"}'


def test_what_is_finite_is_written_as_python_does():
    value = {"number": 0.1, "count": 3, "flag": True, "none": None, "text": "ä", "list": [1, 2]}
    assert dumps(value, indent=1) == json.dumps(value, indent=1)


def test_nobody_else_writes_json():
    for path in PACKAGE.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        written = [call for call in calls if ast.unparse(call) in ("json.dump", "json.dumps")]
        assert not written or path.name in WRITERS, path
