"""Names of edges, and the heat map."""

import numpy as np

from darts_hpc.reporting.alphas import edge_names, heat_map, kept_edges
from darts_hpc.space.genotypes import GENOTYPES


def test_edges_are_named_in_the_order_of_alphas_rows():
    assert edge_names(5) == ["c_{k-2}→0", "c_{k-1}→0", "c_{k-2}→1", "c_{k-1}→1", "0→1"]
    assert edge_names(14)[9:] == ["c_{k-2}→3", "c_{k-1}→3", "0→3", "1→3", "2→3"]


def test_kept_edges_are_edges_of_the_supernet():
    kept = kept_edges(GENOTYPES["DARTS_V2"], "normal")
    assert set(kept) < set(edge_names(14))
    assert kept["0→3"] == "dil_conv_3x3"


def test_the_heat_map_is_a_picture_that_depends_on_the_weights():
    uniform, peaked = np.full((14, 8), 1 / 8), np.full((14, 8), 0.01)
    peaked[:, 3] = 0.93
    first, second = heat_map(uniform.tolist(), "normal"), heat_map(peaked.tolist(), "normal")
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert not np.array_equal(first, second)
