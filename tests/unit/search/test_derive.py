"""From alphas to a genotype."""

import numpy as np
import pytest
import torch

from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import PRIMITIVES, parse_genotype


def reference_cell(alphas: np.ndarray) -> list[tuple[str, int]]:
    """Loop over nodes in NumPy, as the paper's section 2.4 puts it."""
    weights = np.exp(alphas) / np.exp(alphas).sum(1, keepdims=True)
    cell, row = [], 0
    for node in range(4):
        block = weights[row : row + node + 2, 1:]  # column 0 is 'none'
        for state in np.argsort(-block.max(1), kind="stable")[:2]:
            cell.append((PRIMITIVES[1 + block[state].argmax()], int(state)))
        row += node + 2
    return cell


@pytest.mark.parametrize("seed", range(20))
def test_derivation_equals_a_second_implementation(seed):
    normal, reduce = torch.randn(2, 14, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    concat = [2, 3, 4, 5]
    expected = {
        "normal": reference_cell(normal.numpy()),
        "normal_concat": concat,
        "reduce": reference_cell(reduce.numpy()),
        "reduce_concat": concat,
    }
    assert derive_genotype(normal, reduce, PRIMITIVES) == parse_genotype(expected)


def test_a_heavy_none_lowers_its_edges_rank_but_is_never_chosen():
    alphas = torch.zeros(14, 8)
    alphas[2:5, 3] = torch.tensor([3.0, 2.0, 1.0])  # node 1: state 0 has the largest alpha of all ...
    alphas[2, 0] = 9.0  # ... but 'none' takes its softmax
    edges = derive_genotype(alphas, alphas, PRIMITIVES).normal[2:4]
    assert edges == (("skip_connect", 1), ("skip_connect", 2))


def test_ties_go_to_the_first_edge_and_operation():
    genotype = derive_genotype(torch.zeros(14, 8), torch.zeros(14, 8), PRIMITIVES)
    assert genotype.normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4


def test_other_primitive_sets_and_node_counts_derive():
    alphas = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0], [2.0, 0.0], [0.0, 1.0]])
    genotype = derive_genotype(alphas, alphas, primitives=("skip_connect", "sep_conv_3x3"))
    assert genotype.normal == (("sep_conv_3x3", 0), ("skip_connect", 1), ("sep_conv_3x3", 0), ("skip_connect", 1))
    assert genotype.normal_concat == (2, 3)
