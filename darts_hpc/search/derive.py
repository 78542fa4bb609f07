"""From alphas to a genotype (paper, section 2.4)."""

from torch import Tensor

from darts_hpc.space.genotypes import Edges, Genotype


def derive_genotype(alphas_normal: Tensor, alphas_reduce: Tensor, primitives: tuple[str, ...]) -> Genotype:
    """Keep each node's two strongest edges, and on each its strongest operation other than 'none'.

    alphas (E, O) are those before softmax, and primitives the names of their O columns; strength is the softmax
    weight, so a heavy 'none' weakens its edge. Ties go to the earlier edge and operation, as in the original.
    """
    normal, num_nodes = _derive_cell(alphas_normal, primitives)
    reduce, _ = _derive_cell(alphas_reduce, primitives)
    concat = tuple(range(2, num_nodes + 2))
    return Genotype(normal=normal, normal_concat=concat, reduce=reduce, reduce_concat=concat)


def _derive_cell(alphas: Tensor, primitives: tuple[str, ...]) -> tuple[Edges, int]:
    weights = alphas.detach().softmax(-1).tolist()
    candidates = [column for column, name in enumerate(primitives) if name != "none"]
    edges: list[tuple[str, int]] = []
    node = 0
    while weights:
        incoming, weights = weights[: node + 2], weights[node + 2 :]
        best = [max(candidates, key=row.__getitem__) for row in incoming]
        strongest = sorted(range(len(incoming)), key=lambda state: -incoming[state][best[state]])[:2]
        edges += [(primitives[best[state]], state) for state in strongest]
        node += 1
    return tuple(edges), node
