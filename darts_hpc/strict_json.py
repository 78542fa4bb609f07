"""JSON that every reader takes: it has no numbers for NaN and infinity, though Python's json writes them."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: object, indent: int | None = None) -> str:
    """Return the value as JSON; what is not finite becomes null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Return the value, as dicts and lists, with None for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
