"""A campaign's numbers are those of its runs, in every form of its report."""

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run

from darts_hpc.campaigns.page import CampaignView, to_html
from darts_hpc.campaigns.tables import Campaign, Correlation, Ranked, Row, to_json, to_markdown, to_terminal
from darts_hpc.run.reader import read_run

ACCURACIES = (98.89, 99.17, 98.61)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """One search of an hour, a table of three trainings, and a row that has one of two."""
    finals = [
        read_run(write_train_run(tmp_path / f"final-a-seed{seed}", seed=seed, accuracy=accuracy))
        for seed, accuracy in enumerate(ACCURACIES)
    ]
    begun = read_run(write_train_run(tmp_path / "final-b-seed1", seed=1, accuracy=90.0, finished=False))
    whole = Row(title="best", cell="a", runs=finals, num_planned=3, search_seconds=3600.0)
    part = Row(title="DARTS_V2", cell="b", runs=[finals[0], begun], num_planned=2, search_seconds=None)
    ranks = [(97.0, 98.9, True), (96.0, 98.1, False), (95.0, 98.5, False), (None, None, False)]
    ranking = [
        Ranked(family="first order", cell=f"cell{i}", held_out=held_out, final=final, chosen=chosen, why_not="failed")
        for i, (held_out, final, chosen) in enumerate(ranks)
    ]
    return Campaign(
        name="small", about={"command": "python -m darts_hpc.campaign"}, rows=[whole, part], ranking=ranking,
        searches=[read_run(write_search_run(tmp_path / "search-a"))], selections=[], failed={"select-cell3": ["a <b>"]},
        stages={"search": (1, 1, 3600.0), "final": (4, 5, 900.0)}, num_open=1, files={"campaign.yaml": "epochs: 1"},
        commands={"best": ["python -m darts_hpc.train --seed 0"]},
    )  # fmt: skip


def test_the_table_has_mean_deviation_and_count_of_the_finished_trainings(campaign: Campaign):
    mean, deviation = statistics.mean(ACCURACIES), statistics.stdev(ACCURACIES)
    first, second = (re.split(" {2,}", line) for line in to_terminal(campaign).splitlines()[1:])
    assert max(map(len, to_terminal(campaign).splitlines())) <= 80
    assert f"{mean:.2f} ± {deviation:.2f} %" in first and f"{100 - mean:.2f} ± {deviation:.2f} %" in first
    assert "1 of 2" in second and "98.89 %" in second and "90" not in " ".join(second)


def test_every_form_of_the_report_tells_the_same_numbers_and_what_is_missing(campaign: Campaign):
    report, text, page = (
        json.loads(to_json(campaign)),
        to_markdown(campaign),
        to_html(campaign, CampaignView.of(campaign)),
    )
    assert report["rows"][0]["statistics"]["test/accuracy"]["mean"] == pytest.approx(statistics.mean(ACCURACIES))
    assert list(report["rows"][0]["accuracies"].values()) == list(ACCURACIES) and report["num_open"] == 1
    for form in (text, page):
        for words in (
            f"{statistics.mean(ACCURACIES):.2f} ± ",
            "1 to be done, 1 failed",
            "--seed 0",
        ):
            assert words in form
        assert "1.25" in form  # hours in all
    assert "a <b>" in text and "a &lt;b&gt;" in page and "a <b>" not in page


def test_a_row_of_imagenet_trainings_has_their_validation_accuracy(campaign: Campaign):
    runs = [
        replace(run, entry="train_imagenet", result={**(run.result or {}), "final": {"valid/accuracy": accuracy}})
        for run, accuracy in zip(campaign.rows[0].runs, (70.0, 72.0, 74.0), strict=True)
    ]
    row = replace(campaign.rows[0], title="ImageNet", runs=runs)
    served = replace(campaign, rows=[row])
    assert "72.00 ± 2.00 %" in to_terminal(served)
    assert list(json.loads(to_json(served))["rows"][0]["accuracies"].values()) == [70.0, 72.0, 74.0]


def test_a_report_that_is_complete_does_not_say_otherwise(campaign: Campaign):
    done = replace(campaign, failed={}, num_open=0)
    assert "Not complete" not in to_markdown(done) and "Not complete" in to_markdown(campaign)


def test_the_correlation_is_over_the_cells_that_have_both_numbers(campaign: Campaign):
    found = campaign.correlation
    assert found is not None and found.n == 3
    # ranks 1 2 3 against 1 3 2: d = 0, 1, 1
    assert found.spearman == pytest.approx(1 - 6 * 2 / (3 * 8)) and found.kendall == pytest.approx(1 / 3)
    assert replace(campaign, ranking=campaign.ranking[:2]).correlation is None
    assert "all of one side are equal" in str(Correlation.of([(1, 2), (2, 2), (3, 2)]))
