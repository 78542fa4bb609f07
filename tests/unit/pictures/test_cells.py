"""Pictures of cells: what they show, where they look right, and what happens without graphviz."""

import logging
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from darts_hpc.pictures import cells
from darts_hpc.pictures.cells import cell_image, cell_svg, describe_cell, draw_genotype
from darts_hpc.space.genotypes import GENOTYPES, OPERATION_NAMES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    cells._hint_once.cache_clear()


def edges_of(svg: str) -> list[tuple[str, str, str]]:
    """Return (from, to, label) of every edge a graphviz SVG draws."""
    edges = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == "edge":
            source, target = (group.findtext(f"{SVG}title") or "").split("->")
            edges.append((source, target, (group.findtext(f"{SVG}text") or "").strip()))
    return sorted(edges)


def expected_edges(name: str, cell: str) -> list[tuple[str, str, str]]:
    genotype = GENOTYPES[name]
    states = ["c_{k-2}", "c_{k-1}", *map(str, range(len(genotype.normal) // 2))]
    edges = [
        (states[state], str(position // 2), operation)
        for position, (operation, state) in enumerate(getattr(genotype, cell))
    ]
    return sorted(edges + [(states[state], "c_{k}", "") for state in getattr(genotype, f"{cell}_concat")])


@pytest.mark.usefixtures("dot")
@pytest.mark.parametrize("name", ["DARTS_V2", "NASNet", "AmoebaNet"])
@pytest.mark.parametrize("cell", ["normal", "reduce"])
def test_a_drawn_cell_has_the_edges_of_the_genotype_and_joins_only_its_concat(name: str, cell: str, tmp_path: Path):
    paths = draw_genotype(GENOTYPES[name], tmp_path / "cell", ["svg"])
    assert [path.name for path in paths] == ["cell_normal.svg", "cell_reduction.svg"]
    drawn = paths[cell == "reduce"].read_text()
    assert edges_of(drawn) == edges_of(cell_svg(GENOTYPES[name], cell)) == expected_edges(name, cell)


@pytest.mark.usefixtures("dot")
def test_pictures_come_in_all_three_formats_below_a_new_folder(tmp_path: Path):
    paths = draw_genotype(GENOTYPES["DARTS"], tmp_path / "new" / "v1.2")
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    assert len(paths) == 6
    assert all(path.read_bytes().startswith(starts[path.suffix[1:]]) for path in paths)
    assert paths[0].name == "v1.2_normal.svg"


@pytest.mark.usefixtures("dot")
def test_a_cell_in_a_page_has_no_background_and_only_colors_that_a_theme_can_change():
    svg = cell_svg(GENOTYPES["DARTS"], "normal")
    colors = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
    assert all(color in ("none", "transparent") or color.startswith("var(--") for color in colors)


@pytest.mark.usefixtures("dot")
def test_the_picture_for_tensorboard_is_an_rgb_image_of_both_cells():
    image = cell_image(GENOTYPES["DARTS"])
    assert image is not None
    assert image.dtype == np.uint8
    assert image.shape[0] > 400
    assert image.shape[2] == 3


@pytest.mark.usefixtures("no_dot")
def test_without_dot_the_sources_are_written_and_one_hint_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        paths = draw_genotype(GENOTYPES["DARTS"], tmp_path / "cell", ["svg", "png"])
        assert cell_image(GENOTYPES["DARTS"]) is None
        assert cell_svg(GENOTYPES["DARTS"], "normal") == ""
    assert [path.name for path in paths] == ["cell_normal.gv", "cell_reduction.gv"]
    assert "sep_conv_3x3" in paths[0].read_text()
    assert len(caplog.messages) == 1
    assert "apt install graphviz" in caplog.text


def test_every_operation_has_a_color():
    colors = {operation: cells.operation_color(operation) for operation in OPERATION_NAMES}
    assert set(colors.values()) <= set(cells.COLORS)
    assert colors["sep_conv_7x7"] != colors["conv_7x1_1x7"]


def test_a_cell_in_words_names_its_inputs_and_its_concat():
    lines = describe_cell(GENOTYPES["NASNet"], "normal")
    assert lines[0] == "0 = sep_conv_5x5(c_{k-1}) + sep_conv_3x3(c_{k-2})"
    assert lines[-1].startswith("c_{k} = concat(")
    assert len(lines) == 6
