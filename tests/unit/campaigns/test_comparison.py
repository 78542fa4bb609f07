"""A comparison's numbers are those of the runs, in every form of the report; what is not finished does not count."""

import csv
import io
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from sample_campaigns import FLAGS, VARIANTS, compared, write_campaign

from darts_hpc.campaigns.anytime import seconds_after
from darts_hpc.campaigns.comparison_tables import to_csv as methods_csv
from darts_hpc.campaigns.control import read_states
from darts_hpc.campaigns.folder import write_folder
from darts_hpc.campaigns.page import CampaignView, to_html
from darts_hpc.campaigns.report import read_campaign
from darts_hpc.campaigns.state import Record, write_record
from darts_hpc.campaigns.tables import Campaign, to_csv, to_json, to_latex, to_markdown, to_terminal
from darts_hpc.campaigns.uncertainty import Difference
from darts_hpc.commands.campaign import presets
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.run.reader import read_run

WITHOUT_CHARTS = CampaignView(
    comparison={}, accuracies=None, ranking=None, shown={}, others={}, over_epochs={}, alphas=[]
)


def read(cfg: CampaignConfig, folder: Path) -> Campaign:
    return read_campaign(cfg, folder, read_states(cfg, folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[CampaignConfig, Path]:
    cfg, folder = compared(*VARIANTS), tmp_path_factory.mktemp("compared")
    write_campaign(folder, cfg)
    return cfg, folder


@pytest.fixture(scope="module")
def campaign(finished) -> Campaign:
    return read(*finished)


@pytest.fixture(scope="module")
def facts(campaign: Campaign) -> dict[tuple[str, str], dict]:
    """The comparison in report.json, by method and space."""
    outcomes = json.loads(to_json(campaign))["comparison"]["outcomes"]
    return {(outcome["method"], outcome["space"]): outcome for outcome in outcomes}


def final(folder: Path, name: str, split: str = "test") -> float:
    return json.loads((folder / "runs" / name / "result.json").read_text())["final"][f"{split}/accuracy"]


def test_a_method_is_known_by_the_mean_of_its_cells_each_the_mean_of_its_trainings(finished, facts):
    _, folder = finished
    cells = {f"s4-rs-seed{seed}" for seed in range(3)}
    means = {cell: statistics.fmean(final(folder, f"final-{cell}-seed{seed}") for seed in (0, 1)) for cell in cells}
    own = facts["rs", "s4"]
    assert own["n"] == 3 and own["mean_accuracy"] == pytest.approx(statistics.fmean(means.values()))
    assert own["std_accuracy"] == pytest.approx(statistics.stdev(means.values()))
    held_out = {cell: final(folder, f"select-{cell}", "valid") for cell in cells}
    best = max(cells, key=held_out.__getitem__)
    assert own["best_cell"] == best and own["best_accuracy"] == pytest.approx(means[best])
    assert set(facts) == {
        *((method, space) for method in ("first_order", "beta", "random") for space in ("s2", "s4")),
        *(("unrolled", "s2"), ("rs", "s4")),
    }


def test_the_ranking_is_held_against_the_mean_of_a_cells_trainings(finished, campaign):
    _, folder = finished
    ranked = {each.cell: each.final for each in campaign.ranking}
    for cell in ("s2-beta-seed1", "s4-random-3"):
        assert ranked[cell] == statistics.fmean(final(folder, f"final-{cell}-seed{seed}") for seed in (0, 1))


def test_a_method_is_compared_with_the_random_cells_of_its_own_space(finished, facts):
    _, folder = finished

    def accuracies(cells):
        return [[final(folder, f"final-{cell}-seed{seed}") for seed in (0, 1)] for cell in cells]

    ours = accuracies(f"s2-beta-seed{seed}" for seed in range(3))
    theirs = accuracies(f"s2-random-{number}" for number in range(4))
    expected, own = Difference.of(ours, theirs), facts["beta", "s2"]
    assert [own[name] for name in ("difference", "difference_low", "difference_high", "rank_test_p")] == pytest.approx(
        [expected.mean, expected.low, expected.high, expected.p]
    )
    assert facts["random", "s2"]["difference"] is None


def test_what_a_search_took_and_its_cells_look_like_stands_beside_its_accuracy(facts):
    own, random = facts["first_order", "s4"], facts["random", "s4"]
    assert own["search_seconds"] == 24.0 and own["search_peak_bytes"] == 300_000_000
    assert own["skip_connects"] == 0 and own["parameter_free"] == 7 and own["eigenvalue"] == 0.9  # noise, no skips
    assert facts["first_order", "s2"]["skip_connects"] == facts["first_order", "s2"]["parameter_free"] == 7
    assert random["search_seconds"] is None and random["eigenvalue"] is None and random["parameter_free"] < 7


def test_any_time_a_search_is_known_by_a_training_of_the_cell_of_then(finished, facts):
    _, folder = finished
    points = facts["beta", "s2"]["anytime"]
    assert [(point["share"], point["n"], point["seconds"]) for point in points] == [(0.5, 3, 12.0), (1.0, 3, 24.0)]
    names = {0.5: "anytime-s2-beta-seed{}-at0.5", 1.0: "select-s2-beta-seed{}"}
    for point in points:
        own = [final(folder, names[point["share"]].format(seed), "valid") for seed in range(3)]
        assert point["accuracy"] == pytest.approx(statistics.fmean(own))
    search, early = (read_run(folder / "runs" / f"{name}") for name in ("search-s2-beta-seed1", names[0.5].format(1)))
    assert early.genotype == search.cell_after[2] and early.genotype != search.genotype  # the third of six epochs


def test_the_time_of_an_old_search_at_an_epochs_end_is_its_last_record_before(finished):
    run = read_run(finished[1] / "runs" / "search-s2-beta-seed1")
    old = [{key: value for key, value in record.items() if key != "event"} for record in run.performance]
    assert seconds_after(run, 0.5) == seconds_after(replace(run, performance=old), 0.5) == 12.0


def test_every_form_of_the_report_has_the_comparison(campaign: Campaign, facts):
    view = CampaignView.of(campaign)
    text, tex, page = to_markdown(campaign), to_latex(campaign), to_html(campaign, view)
    own = facts["beta", "s2"]
    accuracy = f"{own['mean_accuracy']:.2f} ± {own['std_accuracy']:.2f} %"
    interval = f"{own['difference_low']:+.2f} to {own['difference_high']:+.2f}"
    for form in (text, page, to_terminal(campaign)):
        assert accuracy in form and interval in form and "In s2, beta (" in form
    assert max(map(len, to_terminal(campaign).splitlines())) <= 80
    assert f"{accuracy} (n = 3), best {own['best_accuracy']:.2f} %" in text
    assert tex.count(r"\toprule") == 5 and accuracy.replace("±", r"$\pm$").replace("%", r"\%") in tex
    assert "first_order" not in tex and r"first\_order" in tex
    rows = list(csv.DictReader(io.StringIO(to_csv(campaign))))
    trained = [row for row in rows if row["row"] == "beta in s2"]
    assert len(trained) == 6 and {row["seed"] for row in trained} == {"0", "1"}
    assert len(rows) == len({row["run"] for row in rows}) == 6 * 3 * 2 + 2 * 4 * 2 + 2
    assert {(row["method"], row["space"]) for row in rows} == {*facts, ("", "")}
    assert {row["cell"] for row in rows if row["row"] == "random cells in s4"} == {f"s4-random-{i}" for i in range(4)}
    figures = view.figures()
    for name in ("accuracy", "anytime", "collapse", "skips", "eigenvalues"):
        assert {f"s2-{name}", f"s4-{name}"} <= set(figures)
    assert "one cell, or training" in figures["s2-accuracy"].svg  # those of DARTS_V2


def test_the_sentences_name_what_stands_out_and_what_the_numbers_do_not_show(campaign: Campaign):
    sentences = json.loads(to_json(campaign))["comparison"]["conclusions"]
    assert sentences[0].startswith("In s2, beta (+") and "is better than random cells" in sentences[0]
    assert "first_order (-" in sentences[0] and "unrolled (-" in sentences[0] and "are worse" in sentences[0]
    limits = sentences[-1]
    for words in ("digits of 16 pixels, 5 cells of 8 channels, 15 epochs", "no rank test can come below p = 0.057"):
        assert words in limits
    assert "Of 6 comparisons about one in twenty stands out by chance" in limits


def test_a_cell_counts_when_all_its_trainings_are_finished(finished, tmp_path: Path):
    cfg, folder = finished
    shutil.copytree(folder, tmp_path / "half")
    for name in ("final-s2-beta-seed1-seed1", "anytime-s2-beta-seed2-at0.5"):
        (tmp_path / "half" / "runs" / name / "result.json").unlink()
    half = read(cfg, tmp_path / "half")
    assert half.comparison is not None and half.num_open == 2
    beta = half.comparison.of("beta", "s2")
    assert beta is not None and set(beta.accuracies) == {"s2-beta-seed0", "s2-beta-seed2"}
    assert [point.n for point in beta.anytime] == [2, 2] and "(n = 2 of 3)" in to_markdown(half)


def lose(cfg: CampaignConfig, folder: Path, *names: str) -> None:
    """Let jobs have failed for good, and take away what came of them."""
    for each in read_states(cfg, folder):
        if each.job.name in names or set(each.job.after) & set(names):
            shutil.rmtree(each.job.folder(folder))
        if each.job.name in names:
            write_record(folder, each.job, Record(failures=cfg.where.retries + 1))


@pytest.fixture(scope="module")
def with_failures(finished, tmp_path_factory) -> Campaign:
    """Failures of both kinds, of some cells and of all; the third search of beta in s4 is still to be done."""
    cfg, folder = finished
    partly = tmp_path_factory.mktemp("partly") / "campaign"
    shutil.copytree(folder, partly)
    lose(cfg, partly, *(f"search-s2-unrolled-seed{seed}" for seed in range(3)), "search-s2-beta-seed1")
    lose(cfg, partly, "final-s2-random-3-seed1", "final-DARTS_V2-seed1")
    for each in read_states(cfg, partly):
        if "s4-beta-seed2" in each.job.name:
            shutil.rmtree(each.job.folder(partly))
    return read(cfg, partly)


def test_what_failed_is_told_from_what_is_not_planned_and_what_is_not_done_yet(with_failures: Campaign):
    text, tex = to_markdown(with_failures), to_latex(with_failures)
    page, terminal = to_html(with_failures, WITHOUT_CHARTS), to_terminal(with_failures)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.split("## Best")[0].splitlines()}
    assert "| failed (n = 0 of 3, 3 failed) | not planned |" in rows["unrolled"]
    assert "(n = 2 of 3, 1 failed)" in rows["beta"] and "(n = 2 of 3)" in rows["beta"]
    assert "(n = 3 of 4, 1 failed)" in rows["random cells"] and "(trainings: 1 of 2, 1 failed)" in rows["DARTS_V2"]
    assert "unrolled in s2, best of 3 | 0 of 2, 2 failed |" in text
    for form in (text, page, tex):
        assert "failed (n = 0 of 3, 3 failed)" in form and "not planned" in form
        assert "Not complete; of the jobs: 5 to be done, 6 failed, 16 blocked by those." in form
    for form in (text, page, " ".join(terminal.split())):
        assert "In s2, 1 of 3 searches of beta failed; 3 of 3 searches of unrolled failed;" in form
        assert "1 of 4 random cells failed to be trained." in form and "1 of 2 trainings of DARTS_V2 failed." in form
    assert "unrolled in s2 0 of 3, 3 failed failed" in " ".join(terminal.split())


def test_files_for_programs_count_what_failed(with_failures: Campaign):
    facts = json.loads(to_json(with_failures))
    lost = {(o["method"], o["space"]): o["num_failed"] for o in facts["comparison"]["outcomes"] if o["num_failed"]}
    assert lost == {("beta", "s2"): 1, ("unrolled", "s2"): 3, ("random", "s2"): 1}
    assert facts["comparison"]["baseline_counts"] == {"DARTS_V2": {"done": 1, "planned": 2, "failed": 1}}
    assert [row["num_failed"] for row in facts["rows"] if row["title"] == "unrolled in s2, best of 3"] == [2]
    assert with_failures.comparison is not None
    lines = csv.DictReader(io.StringIO(methods_csv(with_failures.comparison)))
    assert {(line["method"], line["space"]) for line in lines if line["num_failed"] != "0"} == set(lost)


def test_before_anything_is_trained_the_report_says_so(tmp_path: Path):
    cfg = compared(*VARIANTS)
    write_folder(cfg, tmp_path, presets(cfg), "a command")
    empty = read(cfg, tmp_path)
    text, page = to_markdown(empty), to_html(empty, WITHOUT_CHARTS)
    assert "In s2, nothing is compared with random cells yet." in text
    assert "Without random cells (not done yet) the numbers do not show whether a search is worth its cost." in page
    assert "not done yet (n = 0 of 3)" in text and "(n = 0 of 4)" in text
    assert json.loads(to_json(empty))["comparison"]["outcomes"][0]["mean_accuracy"] is None and to_latex(empty)


def test_a_variant_that_joins_runs_alone(finished):
    _, folder = finished
    states = read_states(compared(*VARIANTS, "es in s2: --early_stop eigenvalue"), folder)
    left = [each for each in states if each.state != "finished"]
    assert {each.job.stage for each in left} == {"search", "select", "anytime", "final"} and len(left) == 3 * 5
    assert all("s2-es-seed" in each.job.name for each in left)
    assert {each.job.stage for each in left if each.state == "ready"} == {"search"}


def test_a_variant_that_is_left_out_is_not_in_the_table_and_its_runs_stay(finished):
    _, folder = finished
    read_again = read(compared(*VARIANTS[:2]), folder)
    assert read_again.comparison is not None and read_again.comparison.methods == ["first_order", "beta", "random"]
    assert read_again.num_open == 0 and (folder / "runs" / "search-s4-rs-seed0" / "result.json").exists()


def test_a_campaign_of_one_order_that_trains_all_cells_is_a_comparison_of_one_method(tmp_path: Path):
    cfg = parse_config(CampaignConfig, [*FLAGS, "--train_all"])
    write_campaign(tmp_path, cfg)
    both = read(cfg, tmp_path)
    assert both.comparison is not None and both.comparison.methods == ["first_order", "random"]
    (outcome, _) = both.comparison.outcomes
    assert outcome.family.title == "first order" and len(outcome.accuracies) == 3 and outcome.difference is not None
    assert "first_order (-" in to_markdown(both) and "is worse than random cells" in to_markdown(both)
