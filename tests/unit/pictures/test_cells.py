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
OUTPUTS = ("c_{k}", "cₖ")
CHAIN = Genotype(
    normal=tuple((OPERATION_NAMES[1 + i % 7], state) for i, state in enumerate([0, 1, 1, 2, 2, 3, 3, 4])),
    normal_concat=(2, 3, 4, 5), reduce=(("sep_conv_3x3", 0),) * 8, reduce_concat=(2, 3, 4, 5),
)  # fmt: skip


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    cells._hint_once.cache_clear()


def edges_of(svg: str) -> list[tuple[str, str, str]]:
    """Return (from, to, operation) of every edge a graphviz SVG draws; one with an operation has two halves."""
    groups = [group for group in ET.fromstring(svg).iter(f"{SVG}g") if group.get("class") in ("node", "edge")]
    titles = [(group, re.sub(r" \d+", "", group.findtext(f"{SVG}title") or "").replace("→", "->")) for group in groups]
    drawn = [title.split("->") for group, title in titles if group.get("class") == "edge"]
    named = [(*title.split("->"), group.findtext(f".//{SVG}text")) for group, title in titles if title.count("->") == 1]
    edges = [(source, target, words.strip()) for source, target, words in named if words]
    for source, target, _ in edges:
        halves = [parts for parts in drawn if parts[0] == source and parts[-1] == target]
        assert len(halves) >= 2
    outputs = [(source, target, "") for source, target in (parts for parts in drawn if parts[-1].endswith(OUTPUTS))]
    return sorted(edges + outputs)


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
@pytest.mark.parametrize("genotype", [CHAIN, GENOTYPES["DARTS_V2"], GENOTYPES["AmoebaNet"]])
def test_no_edge_runs_through_the_name_of_an_operation(genotype: Genotype):
    for svg in cell_svgs(genotype, "normal"):
        groups = list(ET.fromstring(svg).iter(f"{SVG}g"))
        texts = [text for g in groups if g.get("class") == "node" for text in g.iter(f"{SVG}text")]
        names = [text for text in texts if text.text in OPERATION_NAMES]
        assert len(names) == len(genotype.normal)
        paths = [path.get("d", "") for g in groups if g.get("class") == "edge" for path in g.iter(f"{SVG}path")]
        for path in paths:
            for x, y in points_on(path):
                for name in names:
                    across = abs(x - float(name.get("x", 0))) < 3 * len(name.text or "")  # a letter is about 6 wide
                    assert not (across and -9 < y - float(name.get("y", 0)) < 1), (name.text, path)


def points_on(path: str) -> np.ndarray:
    """Return points (P, 2) of the cubic curves of an SVG path."""
    corners = np.array([tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)])
    t = np.linspace(0, 1, 50)[:, None]
    curves = [corners[i : i + 4] for i in range(0, len(corners) - 3, 3)]
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return np.concatenate([sum(w * p for w, p in zip(weights, curve, strict=True)) for curve in curves])


def test_a_cell_in_words_names_its_inputs_and_its_concat():
    lines = describe_cell(GENOTYPES["NASNet"], "normal")
    assert lines[0] == "0 = sep_conv_5x5(cₖ₋₁) + sep_conv_3x3(cₖ₋₂)"
    assert lines[-1].startswith("cₖ = concat(")
    assert len(lines) == 6
