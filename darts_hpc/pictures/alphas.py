"""Names of alpha's rows and columns, which are a cell's edges and their candidate operations."""

from collections.abc import Mapping
from typing import Any

from darts_hpc.pictures.cells import state_name
from darts_hpc.space.genotypes import Genotype


def edge_names(num_edges: int) -> list[str]:
    """Name the edges in the order of alpha's rows: "c_{k-2}→0", "c_{k-1}→0", "c_{k-2}→1", ..."""
    names: list[str] = []
    node = 0
    while len(names) < num_edges:
        names += [f"{state_name(state)}→{node}" for state in range(node + 2)]
        node += 1
    return names[:num_edges]


def edge_operations(space: Mapping[str, Any], cell: str, num_edges: int, num_operations: int) -> list[list[str]]:
    """Name the operations of each edge of a cell, in the order of alpha's columns.

    space: what space.json holds, "primitives" of every edge or a list per edge of "normal" and "reduce". By number
    where it is of another search.
    """
    lists = space.get(cell) or [space.get("primitives", ())] * num_edges
    if len(lists) == num_edges and all(len(names) == num_operations for names in lists):
        return [list(names) for names in lists]
    return [[f"operation {column}" for column in range(num_operations)]] * num_edges


def weights_label(space: Mapping[str, Any]) -> str:
    """Return what the recorded weights of operations are, in terms of alpha. space: what space.json holds."""
    return space.get("weights", "softmax(alpha)")


def kept_edges(genotype: Genotype, cell: str) -> dict[str, str]:
    """Map the edges that a genotype's cell ("normal" or "reduce") keeps to their operation."""
    edges = getattr(genotype, cell)
    return {f"{state_name(state)}→{position // 2}": operation for position, (operation, state) in enumerate(edges)}
