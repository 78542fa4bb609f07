"""The table of alphas."""

import re

import numpy as np

from darts_hpc.pictures.figures import to_pixels, to_svg
from darts_hpc.pictures.heat_map import HeatMap, draw
from darts_hpc.space.spaces import SPACES

EDGES, OPERATIONS = [f"c_{{k-1}}→{i}" for i in range(14)], [f"operation_{i}" for i in range(8)]


def table(weights: np.ndarray, high: float) -> HeatMap:
    operations = [OPERATIONS[: weights.shape[1]]] * len(weights)
    return HeatMap("normal", weights.tolist(), EDGES[: len(weights)], operations, high)


def test_a_drawn_table_has_every_number_and_name_and_fields_as_full_as_their_weights():
    weights = np.linspace(0.1, 1, 6).reshape(2, 3)
    svg = to_svg(draw(table(weights, high=1.0)))
    words = re.findall(r">([^<>]+)</text>", svg)
    assert [word for word in words if re.fullmatch(r"\d\.\d\d", word)] == [
        f"{weight:.2f}" for weight in weights.ravel()
    ]
    assert set(OPERATIONS[:3]) <= set(words)
    shares = [float(share) for share in re.findall(r"fill: #1a56db; opacity: ([\d.]+)", svg)]
    assert np.allclose(shares, weights.ravel()[:5]) or np.allclose(shares, weights.ravel())  # 1 is not written


def test_columns_without_a_common_name_have_the_operation_in_each_field():
    weights = np.full((14, 2), 0.5)
    heat_map = HeatMap("normal", weights.tolist(), EDGES, SPACES["s1"].normal, high=1.0)
    assert heat_map.columns is None and heat_map.text(3, 1) == f"{SPACES['s1'].normal[3][1]} 0.50"
    assert heat_map.text(3, 1) in to_svg(draw(heat_map))


def test_pixels_are_rgb_on_white():
    image = to_pixels(draw(table(np.full((14, 8), 0.125), high=0.25)))
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image[0, 0].tolist() == [255, 255, 255]


def test_a_weight_that_is_not_finite_is_an_empty_field():
    heat_map = table(np.array([[np.nan, np.inf, 0.5]]), high=0.5)
    assert [heat_map.share(weight) for weight in heat_map.weights[0]] == [0.0, 0.0, 1.0]
    draw(heat_map)
