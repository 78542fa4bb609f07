"""Cells drawn at random from the search's space: what a search has to beat (paper, section 3.3, random search)."""

import random

from darts_hpc.space.genotypes import PRIMITIVES, Edges, Genotype


def random_genotype(seed: int, num_nodes: int = 4, primitives: tuple[str, ...] = PRIMITIVES) -> Genotype:
    """Draw both cells: each node reads two distinct earlier states, through any two operations but `none`.

    A pure function of the seed: the same cell on every machine and with every version of Python.
    """
    draw = random.Random(seed)
    operations = [name for name in primitives if name != "none"]
    concat = tuple(range(2, num_nodes + 2))
    cells = [_random_edges(draw, num_nodes, operations) for _ in range(2)]
    return Genotype(normal=cells[0], normal_concat=concat, reduce=cells[1], reduce_concat=concat)


def _random_edges(draw: random.Random, num_nodes: int, operations: list[str]) -> Edges:
    def below(limit: int) -> int:
        return int(draw.random() * limit)  # of Random's methods, random() alone promises the same numbers for ever

    edges = []
    for node in range(num_nodes):
        first = below(node + 2)
        second = (first + 1 + below(node + 1)) % (node + 2)
        edges += [(operations[below(len(operations))], state) for state in sorted((first, second))]
    return tuple(edges)
