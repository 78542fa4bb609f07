"""The table of alphas: the same fields as SVG and as pixels."""

import re

import numpy as np

from darts_hpc.pictures.heat_map import ACCENT, HEIGHT, LEFT, SCALE, TOP, WIDTH, HeatMap, to_pixels, to_svg

EDGES, OPERATIONS = [f"c_{{k-1}}→{i}" for i in range(14)], [f"operation_{i}" for i in range(8)]


def table(weights: np.ndarray, high: float) -> HeatMap:
    return HeatMap("normal", weights.tolist(), EDGES[: len(weights)], OPERATIONS[: weights.shape[1]], high)


def test_pixels_show_each_weight_at_its_edge_and_operation():
    weights = np.full((14, 8), 0.05)
    weights[5, 3] = 0.65
    heat_map = table(weights, high=0.65)
    image = to_pixels(heat_map)
    assert image.dtype == np.uint8 and image.shape == (SCALE * heat_map.size[1], SCALE * heat_map.size[0], 3)
    corners = image[SCALE * (TOP + 2) :: SCALE * HEIGHT, SCALE * (LEFT + 2) :: SCALE * WIDTH][:14, :8]  # (14, 8, 3)
    assert divmod(int(corners.sum(-1).argmin()), 8) == (5, 3)
    assert tuple(corners[5, 3]) == ACCENT and len(np.unique(corners.reshape(-1, 3), axis=0)) == 2


def test_svg_has_the_same_fields_and_every_name():
    weights = np.linspace(0, 1, 6).reshape(2, 3)
    heat_map = table(weights, high=1.0)
    svg = to_svg(heat_map)
    shares = [float(share) for share in re.findall(r'fill-opacity="([\d.]+)"', svg)]
    assert shares == [round(field.share, 2) for field in heat_map.fields()] == np.round(weights.ravel(), 2).tolist()
    assert all(name in svg for name in [*EDGES[:2], *OPERATIONS[:3]])


def test_a_weight_that_is_not_finite_is_an_empty_field():
    fields = list(table(np.array([[np.nan, np.inf, 0.5]]), high=0.5).fields())
    assert [field.share for field in fields] == [0.0, 0.0, 1.0]
    assert to_pixels(table(np.array([[np.nan, np.inf, 0.5]]), high=0.5)).any()
