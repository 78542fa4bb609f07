"""Grouping runs, and their statistics."""

import json
import statistics
from pathlib import Path

import pytest
import yaml
from sample_runs import write_train_run

from darts_hpc.config.flags import flags_of
from darts_hpc.config.presets import ENTRIES, to_yaml
from darts_hpc.reporting.groups import Statistic, group_runs
from darts_hpc.run.reader import RecordedRun, read_run
from darts_hpc.space.genotypes import GENOTYPES

FLAGS = [(entry, name) for entry in ("train_search", "train", "train_imagenet") for name in flags_of(ENTRIES[entry])]


def run_with(folder: Path, entry: str, flags: dict) -> RecordedRun:
    """A run that has only started, by its entry's defaults but for these flags."""
    folder.mkdir()
    written = yaml.safe_load(to_yaml(ENTRIES[entry](), "")) | flags
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    cell = {"epoch": 0, "when": "before training", "genotype": GENOTYPES["DARTS"].to_dict()}
    (folder / "genotypes.jsonl").write_text(json.dumps(cell) + "\n")
    return read_run(folder)


def test_mean_and_deviation_are_those_of_the_statistics_module(runs: list[Path]):
    train = group_runs([read_run(run) for run in runs])[1]
    accuracy = train.statistics()["test/accuracy"]
    assert accuracy == Statistic(statistics.mean([98.89, 99.17]), statistics.stdev([98.89, 99.17]), 2)


def test_runs_that_differ_in_seed_folder_and_device_share_a_configuration(tmp_path: Path):
    folders = [write_train_run(tmp_path / f"train-{seed}", seed=seed) for seed in range(3)]
    with (folders[2] / "config.yaml").open("a") as config:
        config.write("device: cpu\nreport_freq: 7\n")
    assert [len(group.runs) for group in group_runs([read_run(folder) for folder in folders])] == [3]


@pytest.mark.parametrize(("entry", "name"), FLAGS)
def test_runs_that_differ_in_a_flag_share_a_configuration_as_its_config_declares(tmp_path, entry: str, name: str):
    groups = group_runs([run_with(tmp_path / "a", entry, {}), run_with(tmp_path / "b", entry, {name: "another"})])
    affects = flags_of(ENTRIES[entry])[name].affects
    assert len(groups) == (2 if affects in ("numbers", "batches") else 1)


@pytest.mark.parametrize("flag", [{"memory_check": "off"}, {"replica_check": 7}, {"memory_limit": "10GiB"}])
def test_flags_that_compute_nothing_do_not_split_a_configuration(tmp_path: Path, flag: dict):
    runs = [run_with(tmp_path / "a", "train_search", {}), run_with(tmp_path / "b", "train_search", flag)]
    assert len(group_runs(runs)) == 1


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


def test_one_run_has_no_deviation_and_a_diverged_one_no_mean():
    assert Statistic.of([3.0]) == Statistic(3.0, None, 1)
    assert str(Statistic.of([3.0, float("inf")])) == "Statistic(mean=nan, std=nan, n=2)"


def test_runs_on_other_images_or_of_another_global_batch_are_other_configurations(tmp_path: Path):
    base = {"data_digest": "cats", "global_batch_size": 96, "precision": "fp32", "world_size": 1}
    others = [base, base, {"data_digest": "cars"}, {"global_batch_size": 768}, {"precision": "bf16"}, {"world_size": 8}]
    runs = []
    for number, other in enumerate(others):
        folder = write_train_run(tmp_path / f"train-{number}", seed=number)
        with (folder / "config.yaml").open("a") as config:
            config.write("global_batch_size: null\nprecision: auto\n")
        (folder / "launch.json").write_text(json.dumps({"fingerprint": base | other}))
        runs.append(read_run(folder))
    assert [len(group.runs) for group in group_runs(runs)] == [3, 1, 1, 1]  # the last one has the same global batch
