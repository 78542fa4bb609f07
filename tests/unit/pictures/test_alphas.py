"""Names of edges, and the heat map."""

import numpy as np

from darts_hpc.pictures.alphas import HEIGHT, LEFT, TOP, VIRIDIS, WIDTH, edge_names, heat_map, kept_edges
from darts_hpc.space.genotypes import GENOTYPES


def test_edges_are_named_in_the_order_of_alphas_rows():
    assert edge_names(5) == ["c_{k-2}→0", "c_{k-1}→0", "c_{k-2}→1", "c_{k-1}→1", "0→1"]
    assert edge_names(14)[9:] == ["c_{k-2}→3", "c_{k-1}→3", "0→3", "1→3", "2→3"]


def test_kept_edges_are_edges_of_the_supernet():
    kept = kept_edges(GENOTYPES["DARTS_V2"], "normal")
    assert set(kept) < set(edge_names(14))
    assert kept["0→3"] == "dil_conv_3x3"


def test_the_heat_map_shows_each_weight_at_its_edge_and_operation():
    weights = np.full((14, 8), 0.05)
    weights[5, 3] = 0.65
    image = heat_map(weights.tolist(), "normal")
    assert image.dtype == np.uint8 and image.shape == (TOP + 14 * HEIGHT + 28, LEFT + 8 * WIDTH + 8, 3)
    corners = image[TOP + 1 : TOP + 14 * HEIGHT : HEIGHT, LEFT + 1 : LEFT + 8 * WIDTH : WIDTH]  # (14, 8, 3)
    light = corners.sum(-1).argmax()
    assert divmod(int(light), 8) == (5, 3) and len(np.unique(corners.reshape(-1, 3), axis=0)) == 2


def test_uniform_weights_have_the_color_of_the_middle():
    image = heat_map(np.full((2, 8), 1 / 8).tolist())
    assert tuple(image[TOP + 1, LEFT + 1]) == VIRIDIS[2]
