"""The HTML page: complete, well formed, and without a word to another host."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run

from darts_hpc.pictures.theme import PALETTE
from darts_hpc.reporting.charts import points_chart
from darts_hpc.reporting.groups import group_runs
from darts_hpc.reporting.page import GroupView, to_html
from darts_hpc.run.reader import read_run
from darts_hpc.space.spaces import SPACES

VOID = {"meta", "br"}


class Outline(HTMLParser):
    """Checks that every tag is closed in order, and collects what can load something."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def page_of(folders: list[Path]) -> str:
    return to_html([GroupView.of(group) for group in group_runs([read_run(folder) for folder in folders])])


def outline_of(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_is_well_formed_and_loads_nothing(runs: list[Path]):
    page = page_of(runs)
    outline = outline_of(page)
    assert all(link.startswith("#") for link in outline.links)  # a mark that a chart repeats
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert not re.search(r"url\((?!#)|@import", page)
    hosts = set(re.findall(r"https?://[^\"\s<]+", page))
    assert hosts <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of formats, never fetched
    ids = re.findall(r' id="([^"]*)"', page)
    assert set(re.findall(r"""#([\w-]+)["')]""", page)) >= set(ids)  # what nothing refers to has none


def test_the_page_suits_both_themes_and_a_phone(runs: list[Path]):
    page = page_of(runs)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    root, dark = re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL)
    names = [set(re.findall(r"(--[\w-]+):", block)) for block in (root, dark)]
    assert names[0] == names[1]
    used = set(re.findall(r"var\((--[\w-]+)", page)) - {"--line", "--share"}
    assert used <= names[0]
    assert {f"--{name}" for name in PALETTE} == names[0]


def test_no_color_of_a_picture_stays_the_same_in_both_themes(runs: list[Path]):
    page = page_of(runs)
    pictures = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)))
    assert page.count("<svg") > 30 and not re.findall(r"#[0-9a-f]{6}\b|(?:fill|stroke)=\"(?:black|white)", pictures)


def test_every_cell_is_as_wide_as_the_page_lets_it_be(runs: list[Path]):
    for cell in re.findall(r'<div class="cell.*?(<svg[^>]*>)', page_of(runs)):
        assert "viewBox=" in cell and not re.search(r' (width|height)="', cell)


def test_the_page_shows_every_part(runs: list[Path]):
    page = unescape(page_of(runs))
    assert "99.03 ± 0.20 % (test)" in page
    for part in ("Accuracy in %", "Loss", "Entropy", "Skip connections", "Normal cell", "Reduction cell"):
        assert part in page
    assert page.count('<figure class="edge') == 2 * 14
    assert page.count('is-kept"') == 2 * 8
    assert len(re.findall('class="heat[ "]', page)) == 2 * 2 * 14 * 8
    assert "c<sub>k-2</sub>→0" in page and "c_{k" not in page
    for text in ("weight_decay: 0.0003", "torch: 2.15.0", "python -m darts_hpc.train --seed 1", "Genotype(normal=["):
        assert text in page


def test_an_unfinished_run_is_marked(tmp_path: Path):
    page = page_of([write_search_run(tmp_path / "train_search-1", epochs=1, finished=False)])
    assert "unfinished, 1 of 1 epochs" in page
    assert "so far" in page
    outline_of(page)


def test_without_dot_the_page_has_the_cells_as_text_and_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    page = unescape(page_of([write_train_run(tmp_path / "train-1")]))
    outline_of(page)
    assert "0 = sep_conv_3x3(cₖ₋₂) + sep_conv_3x3(cₖ₋₁)" in page
    assert "apt install graphviz" in page


def test_a_search_that_diverged_can_be_reported(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-1")
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs[-1] |= {"alphas/normal": [[None] * 8] * 14, "train/loss": None}  # as a run writes what is not finite
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in epochs))
    page = page_of([folder])
    assert "NaN" not in page
    assert ">nan<" not in page
    assert page.count('<figure class="edge') == 2 * 14


def test_names_from_outside_can_not_become_markup(tmp_path: Path):
    folder = write_train_run(tmp_path / "train-<b>&1")
    (folder / "command.txt").write_text("python <script>alert(1)</script>\n")
    page = page_of([folder])
    outline_of(page)
    assert "<script" not in page
    assert "train-<b>" not in page


def test_names_from_outside_can_not_become_markup_in_a_chart():
    chart = points_chart("Accuracy", [("<b>&1", [1.0, 2.0])])
    assert chart is not None
    outline = outline_of(chart.in_page)
    assert "b" not in outline.tags and "&lt;b&gt;&amp;1" in chart.in_page


def test_a_training_that_diverged_at_once_keeps_its_loss_chart_and_is_marked(tmp_path: Path):
    folder = write_train_run(tmp_path / "train-1")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record |= {name: None for name in record if name.endswith("/loss")}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "result.json").unlink()
    page = page_of([folder])
    assert "<b>Loss</b>" in page and "30 values were not finite" in page and "15 of 15 epochs, diverged" in page


def test_alphas_carry_the_names_of_their_own_search(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-1")
    primitives = [f"mine_{i}" for i in range(8)]
    (folder / "space.json").write_text(json.dumps({"primitives": primitives}))
    alphas = page_of([folder]).partition("How the alphas")[2]  # above is the cell of another search
    assert all(f">{name}<" in alphas for name in primitives) and ">max_pool_3x3<" not in alphas


def test_alphas_of_a_space_whose_edges_differ_carry_the_names_of_each_edge(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-1", epochs=2, space=SPACES["s1"])
    page = unescape(page_of([folder]))
    assert "operation 0" not in page
    edges = re.findall(r'<figure class="edge.*?</figure>', page, re.DOTALL)
    drawn = [set(re.findall(r"<title>(\w+) [\d.]+</title>", edge)) for edge in edges]
    assert drawn == [set(edge) for edge in (*SPACES["s1"].normal, *SPACES["s1"].reduce)]
    last = read_run(folder).epochs[-1]["alphas/normal"]
    assert f">{SPACES['s1'].normal[3][1]} {last[3][1]:.2f}<" in page  # in the table of the last epoch


def test_a_page_says_what_the_weights_of_operations_are(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-1", epochs=1)
    assert "softmax(alpha): how much each operation" in page_of([folder])
    (folder / "space.json").write_text(json.dumps({**SPACES["darts"].to_dict(), "weights": "sigmoid(alpha)"}))
    page = page_of([folder])
    assert "sigmoid(alpha): how much each operation" in page and "softmax(alpha)" not in page


def test_a_cell_that_no_epoch_has_trained_is_said_to_be(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-1", epochs=1, finished=False)
    assert "before the first epoch" not in page_of([folder])
    (folder / "metrics.jsonl").write_text("")
    line = json.loads((folder / "genotypes.jsonl").read_text()) | {"when": "epoch_start"}
    (folder / "genotypes.jsonl").write_text(json.dumps(line) + "\n")
    assert "The cell (before the first epoch)" in page_of([folder])


def test_the_page_shows_why_a_search_ended_and_how_its_edges_are_weighed(tmp_path: Path):
    folder = write_search_run(tmp_path / "run", epochs=3, eigenvalue=0.5)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in (record for record in records if record["event"] == "epoch"):
        record |= {"eigenvalue_average": 0.25, "eigenvalue_rise": 1.4}
        record |= {"edge_weights/normal": [0.125] * 13 + [None], "edge_weights/reduce": [0.375] * 14}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"early_stop": "the eigenvalue grew"}))
    page = page_of([folder])
    outline_of(page)
    assert "The eigenvalue grew" in page and "weighs the edges" in page
    assert page.count("<span>0.125</span>") == 13 and page.count("<span>0.375</span>") == 14
    assert "Rise of the eigenvalue" in page
