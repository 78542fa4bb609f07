"""Pictures of cells: what they show, where they look right, and what happens without graphviz."""

import logging
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from darts_hpc.pictures import cells
from darts_hpc.pictures.cells import cell_image, cell_svgs, describe_cell, draw_genotype
from darts_hpc.pictures.typeset import plain
from darts_hpc.space.genotypes import GENOTYPES, OPERATION_NAMES, Genotype

SVG = "{http://www.w3.org/2000/svg}"
CHAIN = Genotype(
    normal=tuple((OPERATION_NAMES[1 + i % 7], state) for i, state in enumerate([0, 1, 1, 2, 2, 3, 3, 4])),
    normal_concat=(2, 3, 4, 5), reduce=(("sep_conv_3x3", 0),) * 8, reduce_concat=(2, 3, 4, 5),
)  # fmt: skip


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    cells._hint_once.cache_clear()


def edges_of(svg: str) -> list[tuple[str, str, str]]:
    """Return (from, to, label) of every edge a graphviz SVG draws."""
    edges = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if group.get("class") == "edge":
            source, target = re.split("->|→", group.findtext(f"{SVG}title") or "")
            edges.append((source, target, (group.findtext(f".//{SVG}text") or "").strip()))
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
    assert edges_of(drawn) == expected_edges(name, cell)
    for svg in cell_svgs(GENOTYPES[name], cell):
        assert edges_of(svg) == sorted((plain(a), plain(b), words) for a, b, words in expected_edges(name, cell))


@pytest.mark.usefixtures("dot")
def test_pictures_come_in_all_three_formats_below_a_new_folder(tmp_path: Path):
    paths = draw_genotype(GENOTYPES["DARTS"], tmp_path / "new" / "v1.2")
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    assert len(paths) == 6
    assert all(path.read_bytes().startswith(starts[path.suffix[1:]]) for path in paths)
    assert paths[0].name == "v1.2_normal.svg"


@pytest.mark.usefixtures("dot")
def test_a_cell_in_a_page_has_no_background_and_only_colors_that_a_theme_can_change():
    svg, _ = cell_svgs(GENOTYPES["DARTS"], "normal")
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
        assert cell_svgs(GENOTYPES["DARTS"], "normal") == ("", "")
    assert [path.name for path in paths] == ["cell_normal.gv", "cell_reduction.gv"]
    assert "sep_conv_3x3" in paths[0].read_text()
    assert len(caplog.messages) == 1
    assert "apt install graphviz" in caplog.text


@pytest.mark.usefixtures("dot")
def test_an_index_is_below_the_line_for_renderers_without_baseline_shift_too(tmp_path: Path):
    for svg in (
        draw_genotype(GENOTYPES["DARTS"], tmp_path / "cell", ["svg"])[0].read_text(),
        *cell_svgs(CHAIN, "normal"),
    ):
        assert "baseline-shift" not in svg
        indices = {text.text: text for text in ET.fromstring(svg).iter(f"{SVG}text") if text.get("dy")}
        assert set(indices) == {"k-2", "k-1", "k"}
        assert all(float(text.get("dy", 0)) > 0 and float(text.get("font-size", 0)) < 16 for text in indices.values())


@pytest.mark.usefixtures("dot")
def test_a_long_cell_is_drawn_downwards_for_a_phone():
    wide, narrow = (float(svg.partition('viewBox="')[2].split()[2]) for svg in cell_svgs(CHAIN, "normal"))
    assert narrow < wide / 2


@pytest.mark.usefixtures("dot")
def test_words_of_an_edge_stand_above_its_line():
    """dot itself centres them on it where the edge is straight."""
    edges = [g for g in ET.fromstring(cell_svgs(CHAIN, "normal")[0]).iter(f"{SVG}g") if g.get("class") == "edge"]
    checked = 0
    for edge in edges:
        words, path = edge.find(f"{SVG}text"), edge.find(f"{SVG}path")
        if words is not None and path is not None:
            points = [
                tuple(map(float, point.split(","))) for point in re.findall(r"[-\d.]+,[-\d.]+", path.get("d", ""))
            ]
            if max(y for _, y in points) - min(y for _, y in points) < 12:  # straight
                assert float(words.get("y", 0)) < min(y for _, y in points)
                checked += 1
    assert checked >= 2


def test_a_cell_in_words_names_its_inputs_and_its_concat():
    lines = describe_cell(GENOTYPES["NASNet"], "normal")
    assert lines[0] == "0 = sep_conv_5x5(cₖ₋₁) + sep_conv_3x3(cₖ₋₂)"
    assert lines[-1].startswith("cₖ = concat(")
    assert len(lines) == 6
