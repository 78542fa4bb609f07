"""Cells drawn at random from the search's space: what a search has to beat (paper, section 3.3, random search)."""

import random

from darts_hpc.space.genotypes import Edges, Genotype
from darts_hpc.space.spaces import SPACES, EdgeLists, SearchSpace


def random_genotype(seed: int, space: SearchSpace = SPACES["darts"]) -> Genotype:
    """Draw both cells: each node reads two distinct earlier states, by any of those edges' operations but `none`.

    A pure function of the seed: the same cell on every machine and with every version of Python.
    """
    draw = random.Random(seed)
    concat = tuple(range(2, space.num_nodes + 2))
    cells = [_random_edges(draw, edges) for edges in (space.normal, space.reduce)]
    return Genotype(normal=cells[0], normal_concat=concat, reduce=cells[1], reduce_concat=concat)


def _random_edges(draw: random.Random, primitives: EdgeLists) -> Edges:
    def below(limit: int) -> int:
        return int(draw.random() * limit)  # of Random's methods, random() alone promises the same numbers for ever

    edges, incoming, node = [], list(primitives), 0
    while incoming:
        first = below(node + 2)
        second = (first + 1 + below(node + 1)) % (node + 2)
        for state in sorted((first, second)):
            operations = [name for name in incoming[state] if name != "none"]
            edges.append((operations[below(len(operations))], state))
        incoming, node = incoming[node + 2 :], node + 1
    return tuple(edges)
