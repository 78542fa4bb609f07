"""Differentiable architecture search (DARTS), from the first search step to a trained, tested and drawn cell."""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["FinishedRun", "SearchSpace", "array_data", "create_model", "register_timm", "search_cell", "train_cell"]

if TYPE_CHECKING:
    from darts_hpc.api import FinishedRun, SearchSpace, array_data, create_model, register_timm, search_cell, train_cell


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'darts_hpc' has no attribute {name!r}")
    from darts_hpc import api

    return getattr(api, name)
