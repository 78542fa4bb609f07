"""One table in the forms that people read."""

import csv
import io

import pytest

from darts_hpc.reporting.table_formats import aligned, comma_separated, latex, latex_text, markdown

HEADER = ["Cell", "n", "Test error", "Test accuracy", "Parameters"]
ROWS = [
    ["second order, each of 24 searches on CIFAR-10: second_order-seed12", "10", "2.76 ± 0.09 %", "97.24 ± 0.09 %",
     "36.63 ± 7.92 k"],
    ["DARTS_V2", "1 (of 10)", "2.80 %", "97.20 %", "3.35 M"],
]  # fmt: skip


def test_a_table_fits_a_terminal_and_loses_no_word():
    lines = aligned(HEADER, ROWS).splitlines()
    assert max(map(len, lines)) <= 80
    assert sorted(" ".join(lines).split()) == sorted(" ".join(map(" ".join, [HEADER, *ROWS])).split())
    starts = {line.index(cell) for line, cell in zip((lines[0], lines[1]), ("Test error", ROWS[0][2]), strict=True)}
    assert len(starts) == 1


def test_a_word_longer_than_its_column_is_broken():
    lines = aligned(["Cell", "x" * 60], [["a" * 50, "y"]]).splitlines()
    assert max(map(len, lines)) <= 80 and sum(line.count("a") for line in lines) == 50


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("97.24 ± 0.09 %", r"97.24 $\pm$ 0.09 \%"),
        ("first_order & $5 #1 {x}", r"first\_order \& \$5 \#1 \{x\}"),
        (r"a\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("c_{k-2}→0, c_{k-1}", r"$c_{k-2}$$\to$0, $c_{k-1}$"),
    ],
)
def test_latex_prints_what_the_text_says(text: str, written: str):
    assert latex_text(text) == written


def test_a_latex_table_has_a_column_per_field():
    lines = latex(HEADER, ROWS, "a % of it").splitlines()
    assert r"\begin{tabular}{lrrrr}" in lines and r"\caption{a \% of it}" in lines
    assert [line.count(" & ") for line in lines if line.endswith(r"\\")] == [4, 4, 4]


def test_csv_is_read_back_as_it_was():
    rows = [['a, "b"\nc', 1.5, None, True]]
    text = comma_separated(["name", "x", "y", "z"], rows)
    assert list(csv.reader(io.StringIO(text))) == [["name", "x", "y", "z"], ['a, "b"\nc', "1.5", "", "True"]]


def test_a_bar_in_a_cell_stays_in_its_cell_of_markdown():
    assert markdown(["a"], [["b|c"]]).splitlines()[-1] == r"| b\|c |"
