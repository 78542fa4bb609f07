"""Random cells: valid, reproducible, and spread evenly over the search's space."""

from collections import Counter

from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.random_cells import random_genotype
from darts_hpc.space.spaces import SPACES

FIRST_EDGES = (("skip_connect", 0), ("avg_pool_3x3", 1), ("dil_conv_3x3", 1), ("skip_connect", 2))
CELLS = [random_genotype(seed) for seed in range(700)]


def test_a_seed_names_one_cell_for_ever():
    assert random_genotype(0) == CELLS[0] != CELLS[1]
    assert CELLS[0].normal[:4] == FIRST_EDGES


def test_every_node_reads_two_distinct_states_as_derived_cells_do():
    for cell in CELLS:
        for edges in (cell.normal, cell.reduce):
            assert len(edges) == 8
            for node in range(4):
                (_, first), (_, second) = edges[2 * node : 2 * node + 2]
                assert 0 <= first < second < node + 2
        assert cell.normal_concat == cell.reduce_concat == (2, 3, 4, 5)


def test_operations_and_pairs_of_inputs_are_equally_likely():
    edges = [edge for cell in CELLS for edge in (*cell.normal, *cell.reduce)]
    operations = Counter(operation for operation, _ in edges)  # 11,200 draws of 7: 1,600 each, standard deviation 37
    assert set(operations) == set(PRIMITIVES) - {"none"}
    assert all(abs(count - 1600) < 5 * 37 for count in operations.values())
    pairs = Counter((cell.normal[6][1], cell.normal[7][1]) for cell in CELLS)  # the last node: 10 pairs, 70 each
    assert len(pairs) == 10 and all(abs(count - 70) < 5 * 8 for count in pairs.values())


def test_a_cell_of_a_space_of_pairs_has_the_operations_of_its_edges():
    for seed in range(50):
        cell = random_genotype(seed, SPACES["s1"])
        for kind in ("normal", "reduce"):
            for position, (operation, state) in enumerate(getattr(cell, kind)):
                node = position // 2
                assert operation in getattr(SPACES["s1"], kind)[node * (node + 3) // 2 + state]
