"""From relaxed alphas to a genotype (paper, section 2.4)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from darts_hpc.space.genotypes import Edges, Genotype
from darts_hpc.space.spaces import SearchSpace


def derive_genotype(strengths: Mapping[str, Tensor], space: SearchSpace) -> Genotype:
    """Keep each node's two strongest edges, and on each its strongest operation other than 'none'.

    Ties go to the earlier edge and operation, as in the original.

    Args:
        strengths: (E, O) for the kinds normal and reduce: the softmax weights, so that a heavy 'none' weakens its edge.
    """
    concat = tuple(range(2, space.num_nodes + 2))
    normal = _derive_cell(strengths["normal"], space.normal)
    reduce = _derive_cell(strengths["reduce"], space.reduce)
    return Genotype(normal=normal, normal_concat=concat, reduce=reduce, reduce_concat=concat)


def _derive_cell(strengths: Tensor, primitives: Sequence[tuple[str, ...]]) -> Edges:
    rows = list(zip(strengths.detach().tolist(), primitives, strict=True))
    edges: list[tuple[str, int]] = []
    node = 0
    while rows:
        incoming, rows = rows[: node + 2], rows[node + 2 :]
        best = [_strongest(row, names) for row, names in incoming]
        strongest = sorted(range(len(incoming)), key=lambda state: -incoming[state][0][best[state]])[:2]
        edges += [(incoming[state][1][best[state]], state) for state in strongest]
        node += 1
    return tuple(edges)


def _strongest(row: Sequence[float], names: Sequence[str]) -> int:
    return max((column for column, name in enumerate(names) if name != "none"), key=row.__getitem__)
