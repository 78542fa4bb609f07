"""The report's numbers as text, Markdown and JSON."""

import csv
import io
import json
import statistics
from pathlib import Path

import pytest
from sample_runs import write_train_run

from darts_hpc.reporting.groups import Statistic, group_runs
from darts_hpc.reporting.summary import group_table, show, to_csv, to_json, to_latex, to_markdown
from darts_hpc.run.reader import read_run


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (Statistic(97.235, 0.128, 3), "percent", "97.23 ± 0.13 %"),
        (Statistic(97.235, None, 1), "percent", "97.23 %"),
        (Statistic(3_349_342, 0.0, 3), "count", "3.35 M"),
        (7000.0, "seconds", "1 h 56 min"),
        (3 * 2**30, "bytes", "3.0 GiB"),
        (12.0, "count", "12"),
        (float("nan"), "percent", "not finite"),
        (None, "percent", "-"),
    ],
)
def test_numbers_are_spelled_in_the_unit_that_fits(value: float | Statistic | None, kind: str, text: str):
    assert show(value, kind) == text


def test_markdown_and_json_carry_the_same_headline(runs: list[Path]):
    groups = group_runs([read_run(run) for run in runs])
    report = json.loads(to_json(groups))["configurations"][1]
    mean, std = report["statistics"]["test/accuracy"]["mean"], report["statistics"]["test/accuracy"]["std"]
    assert mean == statistics.mean([98.89, 99.17])
    assert std == statistics.stdev([98.89, 99.17])
    assert f"{mean:.2f} ± {std:.2f} % (test)" in to_markdown(groups)
    assert group_table(groups)[1][1][2] == f"{mean:.2f} ± {std:.2f} % (test)"


def test_csv_has_the_numbers_of_every_run_as_they_are(runs: list[Path]):
    lines = list(csv.DictReader(io.StringIO(to_csv(group_runs([read_run(run) for run in runs])))))
    assert [line["run"] for line in lines] == ["train_search-digits-1", "train-digits-1", "train-digits-2"]
    assert [line["test/accuracy"] for line in lines] == ["", "98.89", "99.17"]
    assert lines[0]["entry"] == "train_search" and lines[2]["seed"] == "1" and lines[1]["parameters"] == "61234"


def test_latex_has_every_table(runs: list[Path]):
    text = to_latex(group_runs([read_run(run) for run in runs]))
    assert text.count(r"\begin{tabular}") == 3 and r"99.03 $\pm$ 0.20 \% (test)" in text
    assert "train\\_search-digits-1" in text


def test_the_best_epoch_is_marked_as_no_result(runs: list[Path]):
    markdown = to_markdown(group_runs([read_run(run) for run in runs]))
    assert "Best epoch (not the result)" in markdown
    assert "99.47" in markdown


def test_json_is_strict_even_for_a_diverged_run(tmp_path: Path):
    folder = write_train_run(tmp_path / "train-1")
    result = json.loads((folder / "result.json").read_text())
    result["final"]["test/loss"] = float("nan")
    (folder / "result.json").write_text(json.dumps(result))
    text = to_json(group_runs([read_run(folder)]))
    report = json.loads(text, parse_constant=pytest.fail)["configurations"][0]
    assert report["statistics"]["test/loss"]["mean"] is None
