"""Names of alpha's rows and columns, which are a cell's edges and their candidate operations."""

from collections.abc import Sequence

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


def operation_names(primitives: Sequence[str], num_operations: int) -> list[str]:
    """Name alpha's columns by the search's primitives, or by number where those are of another search."""
    fits = len(primitives) == num_operations
    return list(primitives) if fits else [f"operation {i}" for i in range(num_operations)]


def kept_edges(genotype: Genotype, cell: str) -> dict[str, str]:
    """Map the edges that a genotype's cell ("normal" or "reduce") keeps to their operation."""
    edges = getattr(genotype, cell)
    return {f"{state_name(state)}→{position // 2}": operation for position, (operation, state) in enumerate(edges)}
