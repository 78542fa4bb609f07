"""Charts: what is drawn, and what a chart says of the values that can't be."""

import re
import xml.etree.ElementTree as ET

import pytest

from darts_hpc.pictures.alphas import edge_names
from darts_hpc.pictures.theme import COLORS, DASHED, PALETTE, for_page, operation_color
from darts_hpc.reporting.charts import (
    Chart,
    Curve,
    Evolution,
    edge_chart,
    evolution_figure,
    line_chart,
    points_chart,
    scatter_chart,
)
from darts_hpc.space.genotypes import OPERATION_NAMES

NAN, INF = float("nan"), float("inf")


def curve_of(chart: Chart | None, number: int = 0) -> list[str]:
    """The commands of a curve's path: M begins a line, L draws it."""
    assert chart is not None
    path = re.findall(rf'<g id="curve-{number}">\s*<path d="(.*?)"', chart.svg, re.DOTALL)[0]
    return re.findall(r"[ML]", path)


def test_a_chart_leaves_out_what_is_not_finite_and_says_where_it_was():
    chart = line_chart("Loss", [Curve("train", [(1, 2.0), (2, 1.5), (3, NAN), (4, INF), (5, 1.0), (6, 0.5), (7, NAN)])])
    assert chart is not None and chart.note == "3 values were not finite: epoch 3-4, 7"
    assert curve_of(chart) == ["M", "L", "M", "L"]  # a gap, not a line across it
    assert "nan" not in chart.svg.lower()


def test_a_point_between_two_that_are_not_finite_is_a_dot():
    chart = line_chart("Loss", [Curve("train", [(1, NAN), (2, 2.0), (3, NAN)])])
    assert chart is not None and 'id="dots-0"' in chart.svg and chart.note.endswith("epoch 1, 3")


def test_a_chart_of_nothing_finite_is_still_there_and_says_so():
    lost = [(1.0, NAN), (2.0, INF)]
    for chart in (
        line_chart("Loss", [Curve("train", lost)]),
        points_chart("Loss", [("train", [value for _, value in lost])]),
        scatter_chart("Loss", "x", [(x, y, "train", "") for x, y in lost]),
    ):
        assert chart is not None and chart.title == "Loss" and chart.note.startswith("2 values were not finite")
        assert chart.in_page == ""
    assert line_chart("Loss", []) is points_chart("Loss", []) is scatter_chart("Loss", "x", []) is None


def test_a_flat_curve_and_a_single_epoch_can_be_drawn():
    assert curve_of(line_chart("Loss", [Curve("train", [(1, 0.0), (2, 0.0)])])) == ["M", "L"]
    alone = line_chart("Skip connections", [Curve("train", [(1, 2)])])
    assert alone is not None and 'id="dots-0"' in alone.svg and ">2<" in alone.svg


def test_a_name_with_dollars_is_no_formula():
    chart = points_chart("Accuracy", [("a$_{$b", [1.0, 2.0]), ("c_{k-2}$", [1.0])])
    assert chart is not None and "a$_{$b" in chart.svg


def test_what_the_pointer_shows_is_text_and_stands_on_its_point():
    chart = points_chart("Accuracy", [("<b>row", [97.5, 98.25])])
    assert chart is not None
    titles = [title.text for title in ET.fromstring(chart.in_page).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["<b>row: 97.50 %", "<b>row: 98.25 %"]


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_the_same_figure_is_the_same_file(form: str):
    first, second = (line_chart("Loss", [Curve("train", [(1, 2.0), (2, 1.0)])]) for _ in range(2))
    assert getattr(first, form) == getattr(second, form) and len(getattr(first, form)) > 1000


def evolution(num_epochs: int = 2) -> Evolution:
    names = [["skip_connect", "sep_conv_3x3"], ["none", "max_pool_3x3"]]
    tables = [[[0.5 - 0.1 * epoch, 0.5 + 0.1 * epoch]] * 2 for epoch in range(num_epochs)]
    return Evolution(list(range(1, num_epochs + 1)), tables, edge_names(2), names, {"c_{k-2}→0": "sep_conv_3x3"})


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_an_edge_has_one_curve_per_operation_of_its_own_in_the_colors_of_the_operations(num_epochs: int):
    own = evolution(num_epochs)
    for edge, names in enumerate(own.operations):
        svg = edge_chart(own, edge).in_page
        assert sorted(re.findall(r"<title>(\w+) ", svg)) == sorted(names)
        assert all(f"var(--{operation_color(name)}" in svg for name in names)
    figure = evolution_figure("Normal cell", own).svg
    assert {"skip_connect", "sep_conv_3x3", "none", "max_pool_3x3"} <= set(re.findall(r">(\w+)</text>", figure))


def test_an_edge_whose_operations_weigh_nothing_has_no_strongest_one_and_is_drawn():
    weights = [[[0.4, 0.6], [0.5, 0.5]], [[0.0, 0.0], [0.5, 0.5]]]
    dropped = Evolution([1, 2], weights, edge_names(2), evolution().operations, {})
    assert dropped.strongest(0) is None and dropped.strongest(1) == "max_pool_3x3"
    nothing = Evolution([1], [[[0.0, 0.0], [0.0, -1.0]]], edge_names(2), evolution().operations, {})
    assert all("<path" in edge_chart(each, 0).svg for each in (dropped, nothing))


def test_no_two_colors_of_a_light_page_are_the_same_so_that_each_has_its_name():
    assert len(set(COLORS.values())) == len(PALETTE)


def test_operations_differ_in_their_color_or_in_their_dashes():
    drawn = (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    assert len({(operation_color(name), name in DASHED) for name in drawn}) == len(drawn)
    assert {operation_color(name) for name in [*OPERATION_NAMES, "mine"]} <= set(COLORS)


def test_a_style_sheet_of_a_picture_does_not_reach_the_page():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="5pt"><style>*{color:red}</style><g id="a"/></svg>'
    assert "color:red" not in for_page(svg, "x") and "id=" not in for_page(svg, "x")
