"""Reading run folders, grouping them, and their statistics."""

import json
import statistics
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run

from darts_hpc.reporting.runs import Statistic, group_runs, read_run
from darts_hpc.space.genotypes import GENOTYPES


def test_mean_and_deviation_are_those_of_the_statistics_module(runs: list[Path]):
    train = group_runs([read_run(run) for run in runs])[1]
    accuracy = train.statistics()["test/accuracy"]
    assert accuracy == Statistic(statistics.mean([98.89, 99.17]), statistics.stdev([98.89, 99.17]), 2)


def test_the_headline_is_the_final_epoch_though_an_earlier_one_was_better(tmp_path: Path):
    run = read_run(write_train_run(tmp_path / "train-a-1", accuracy=98.0))
    assert run.headline == 98.0
    assert run.best == pytest.approx(98.3)


def test_runs_that_differ_in_seed_folder_and_device_share_a_configuration(tmp_path: Path):
    folders = [write_train_run(tmp_path / f"train-{seed}", seed=seed) for seed in range(3)]
    with (folders[2] / "config.yaml").open("a") as config:
        config.write("device: cpu\nreport_freq: 7\n")
    assert [len(group.runs) for group in group_runs([read_run(folder) for folder in folders])] == [3]


def test_runs_that_differ_in_another_flag_do_not_and_their_titles_say_which(tmp_path: Path):
    folders = [write_train_run(tmp_path / f"train-{seed}", seed=seed) for seed in range(2)]
    text = (folders[1] / "config.yaml").read_text().replace("weight_decay: 0.0003", "weight_decay: 0.0001")
    (folders[1] / "config.yaml").write_text(text)
    first, second = group_runs([read_run(folder) for folder in folders])
    assert "weight_decay 0.0003" in first.title
    assert "weight_decay 0.0001" in second.title


def test_the_cell_counts_and_not_the_path_it_came_from(tmp_path: Path):
    same = [write_train_run(tmp_path / f"train-{i}", arch=arch) for i, arch in enumerate(("runs/search-1", "DARTS"))]
    other = write_train_run(tmp_path / "train-other", arch="runs/search-1")
    result = json.loads((other / "result.json").read_text()) | {"genotype": GENOTYPES["PDARTS"].to_dict()}
    (other / "result.json").write_text(json.dumps(result))
    groups = group_runs([read_run(folder) for folder in [*same, other]])
    assert [[run.name for run in group.runs] for group in groups] == [["train-0", "train-1"], ["train-other"]]


def test_an_unfinished_run_is_shown_and_left_out_of_the_statistics(tmp_path: Path):
    folders = [write_train_run(tmp_path / "train-1"), write_train_run(tmp_path / "train-2", seed=1, finished=False)]
    group = group_runs([read_run(folder) for folder in folders])[0]
    assert group.runs[1].status == "unfinished, 15 of 15 epochs"
    assert group.statistics()["test/accuracy"].n == 1


def test_a_run_that_has_only_started_can_be_read(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("# train_search\nseed: 1\nepochs: 6\n")
    run = read_run(tmp_path)
    assert (run.entry, run.status, run.headline, run.genotype) == (
        "train_search", "unfinished, 0 of 6 epochs", None, None,
    )  # fmt: skip


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-a", finished=False)
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"event": "epoch", "epo')
    assert len(read_run(folder).epochs) == 6


def test_a_long_value_that_yaml_broke_over_lines_is_read_whole(tmp_path: Path):
    text = "Genotype(normal=[('sep_conv_3x3', 1)], normal_concat=range(2, 6))"
    (tmp_path / "config.yaml").write_text(
        "# train\narch: Genotype(normal=[('sep_conv_3x3', 1)],\n  normal_concat=range(2, 6))\ndata: 'it''s: here'\n"
    )
    assert read_run(tmp_path).config == {"arch": text, "data": "it's: here"}


@pytest.mark.parametrize(
    ("name", "line", "bad"),
    [
        ("metrics.jsonl", 2, '{"event": "epoch", "epoch": 1,'),
        ("metrics.jsonl", 1, '{"event": "epoch"}'),
        ("performance.jsonl", 3, "null"),
        ("genotypes.jsonl", 1, '{"genotype": {"normal": []}}'),
        ("genotypes.jsonl", 1, '{"epoch": 1}'),
        ("result.json", 1, '{"entry": }'),
        ("environment.json", 1, "[]"),
        ("config.yaml", 3, "no colon here"),
    ],
)
def test_damage_is_one_line_that_names_the_file_and_the_line(tmp_path: Path, name: str, line: int, bad: str):
    folder = write_train_run(tmp_path / "train-1")
    lines = (folder / name).read_text().splitlines()
    lines[line - 1] = bad
    (folder / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"{name} line {line}: ") as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"is no run folder: it holds no config\.yaml"):
        read_run(tmp_path)


def test_one_run_has_no_deviation_and_a_diverged_one_no_mean():
    assert Statistic.of([3.0]) == Statistic(3.0, None, 1)
    assert str(Statistic.of([3.0, float("inf")])) == "Statistic(mean=nan, std=nan, n=2)"
