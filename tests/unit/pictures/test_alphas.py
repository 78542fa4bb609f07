"""Names of edges and operations."""

from darts_hpc.pictures.alphas import edge_names, edge_operations, kept_edges
from darts_hpc.space.genotypes import GENOTYPES


def test_edges_are_named_in_the_order_of_alphas_rows():
    assert edge_names(5) == ["c_{k-2}→0", "c_{k-1}→0", "c_{k-2}→1", "c_{k-1}→1", "0→1"]
    assert edge_names(14)[9:] == ["c_{k-2}→3", "c_{k-1}→3", "0→3", "1→3", "2→3"]


def test_kept_edges_are_edges_of_the_supernet():
    kept = kept_edges(GENOTYPES["DARTS_V2"], "normal")
    assert set(kept) < set(edge_names(14))
    assert kept["0→3"] == "dil_conv_3x3"


def test_operations_have_the_names_of_the_searchs_primitives_and_not_of_as_many_others():
    primitives = [f"mine_{i}" for i in range(8)]
    assert edge_operations({"primitives": primitives}, "normal", 14, 8) == [primitives] * 14
    assert edge_operations({"primitives": primitives}, "normal", 2, 3) == [[f"operation {i}" for i in range(3)]] * 2


def test_operations_of_edges_that_differ_are_those_of_each_cell():
    space = {"normal": [["a", "b"], ["c", "d"]], "reduce": [["e", "f"], ["g", "h"]]}
    assert edge_operations(space, "reduce", 2, 2) == space["reduce"]
    assert edge_operations(space, "normal", 14, 2) == [["operation 0", "operation 1"]] * 14
