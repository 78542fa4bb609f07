"""From alphas to a genotype."""

import numpy as np
import pytest
import torch

from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import PRIMITIVES, Genotype, parse_genotype
from darts_hpc.space.spaces import SPACES, SearchSpace, uniform_space


def derived(normal: torch.Tensor, reduce: torch.Tensor, space: SearchSpace = SPACES["darts"]) -> Genotype:
    return derive_genotype({"normal": normal.softmax(-1), "reduce": reduce.softmax(-1)}, space)


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
    assert derived(normal, reduce) == parse_genotype(expected)


def test_a_heavy_none_lowers_its_edges_rank_but_is_never_chosen():
    alphas = torch.zeros(14, 8)
    alphas[2:5, 3] = torch.tensor([3.0, 2.0, 1.0])  # node 1: state 0 has the largest alpha of all ...
    alphas[2, 0] = 9.0  # ... but 'none' takes its softmax
    edges = derived(alphas, alphas).normal[2:4]
    assert edges == (("skip_connect", 1), ("skip_connect", 2))


def test_ties_go_to_the_first_edge_and_operation():
    genotype = derived(torch.zeros(14, 8), torch.zeros(14, 8))
    assert genotype.normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4


def test_other_primitive_sets_and_node_counts_derive():
    alphas = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0], [2.0, 0.0], [0.0, 1.0]])
    genotype = derived(alphas, alphas, uniform_space(("skip_connect", "sep_conv_3x3"), num_nodes=2))
    assert genotype.normal == (("sep_conv_3x3", 0), ("skip_connect", 1), ("sep_conv_3x3", 0), ("skip_connect", 1))
    assert genotype.normal_concat == (2, 3)


def test_each_edge_has_its_own_operations_in_a_space_of_pairs():
    normal, reduce = torch.zeros(2, 14, 2)
    normal[:, 1], reduce[:, 1] = 1.0, 1.0  # the second of each pair
    genotype = derived(normal, reduce, SPACES["s1"])
    assert genotype.normal[:2] == (("dil_conv_3x3", 0), ("dil_conv_5x5", 1))
    assert genotype.reduce[:2] == (("avg_pool_3x3", 0), ("dil_conv_3x3", 1))
