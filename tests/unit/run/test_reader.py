"""Reading run folders."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run

from darts_hpc.config.cli import parse_config
from darts_hpc.config.presets import ENTRIES, to_yaml
from darts_hpc.run.reader import accuracy_name, accuracy_of, read_config, read_progress, read_run


def test_the_headline_is_the_final_epoch_though_an_earlier_one_was_better(tmp_path: Path):
    run = read_run(write_train_run(tmp_path / "train-a-1", accuracy=98.0))
    assert run.accuracy == 98.0
    assert run.best == pytest.approx(98.3)


def test_a_run_that_has_only_started_can_be_read(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("# train_search\nseed: 1\nepochs: 6\n")
    run = read_run(tmp_path)
    assert (run.entry, run.status, run.accuracy, run.genotype) == (
        "train_search", "unfinished, 0 of 6 epochs", None, None,
    )  # fmt: skip


def test_the_accuracy_of_a_run_under_way_is_that_of_its_last_evaluation(tmp_path: Path):
    folder = write_train_run(tmp_path / "train-a", epochs=3, finished=False)
    metrics = folder / "metrics.jsonl"
    *before, last = metrics.read_text().splitlines()
    without = {name: value for name, value in json.loads(last).items() if not name.startswith("test/")}
    metrics.write_text("\n".join([*before, json.dumps(without), ""]))
    run, progress, expected = read_run(folder), read_progress(folder), json.loads(before[-1])["test/accuracy"]
    assert (run.accuracy_name, run.accuracy) == ("test/accuracy", expected) and progress is not None
    assert (progress.epoch, progress.accuracy) == (3, expected)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path):
    folder = write_search_run(tmp_path / "train_search-a", finished=False)
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"event": "epoch", "epo')
    assert len(read_run(folder).epochs) == 6


def test_epochs_that_a_search_rolled_back_are_left_out_and_ones_it_added_count(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("entry: train_search\nepochs: 3\n")
    lines = [("epoch", 0), ("epoch", 1), ("epoch", 2), ("roll_back", 1), ("epoch", 1)]
    records = [{"event": event, "epoch": epoch, "step": step} for step, (event, epoch) in enumerate(lines)]
    records[-1] |= {"num_epochs": 7, "valid/accuracy": 50.0}
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    run = read_run(tmp_path)
    assert [(record["epoch"], record["step"]) for record in run.epochs] == [(0, 0), (1, 4)]
    assert run.status == "unfinished, 2 of 7 epochs" and run.last_epoch == {"valid/accuracy": 50.0}
    progress = read_progress(tmp_path)
    assert progress is not None and (progress.epoch, progress.epochs) == (2, 7)


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
        *(
            ("metrics.jsonl", 2, f'{{"event": "epoch", "epoch": 1, "step": 2, "{name}": "x"}}')
            for name in ("skip_connects", "eigenvalue", "perturbation/loss_before", "schedule/auxiliary_share")
        ),
        ("performance.jsonl", 3, "null"),
        ("genotypes.jsonl", 1, '{"genotype": {"normal": []}}'),
        ("genotypes.jsonl", 1, '{"epoch": 1}'),
        ("result.json", 1, '{"entry": }'),
        ("result.json", 1, '{"status": "finished", "final": {"test/accuracy": 5000}}'),
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
    if name == "result.json":
        assert str(error.value).endswith("; remove it, and the same command goes on from the newest checkpoint")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"is no run folder: it holds no config\.yaml"):
        read_run(tmp_path)


def test_reading_a_run_imports_no_torch():
    code = "import darts_hpc.run.reader, darts_hpc.reporting.page, darts_hpc.campaigns.control, sys"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("entry", ["train_search", "train", "train_imagenet"])
def test_the_entry_is_that_of_config_yaml_whatever_the_folder_is_called(tmp_path: Path, entry: str):
    cfg = parse_config(ENTRIES[entry], ["--save", "evaluate train"])
    (tmp_path / "config.yaml").write_text(to_yaml(cfg, "python -m darts_hpc.whatever"))
    found, flags = read_config(tmp_path)
    assert found == entry and flags["save"] == "evaluate train" and "entry" not in flags
    without = [line for line in to_yaml(cfg, f"python -m darts_hpc.{entry}").splitlines() if "entry: " not in line]
    (tmp_path / "config.yaml").write_text("\n".join(without))  # as an older version wrote it
    assert read_config(tmp_path) == (entry, flags)


@pytest.mark.parametrize(
    ("numbers", "name", "value"),
    [
        ({"test/accuracy": 90.0, "train/accuracy": 99.0}, "test/accuracy", 90.0),
        ({"valid/accuracy": 80.0, "train/accuracy": 99.0}, "valid/accuracy", 80.0),
        ({"valid/accuracy": 80.0, "test/accuracy": 90.0}, "test/accuracy", 90.0),
        ({"test/accuracy": float("nan")}, "test/accuracy", None),
        ({"test/accuracy": None}, "test/accuracy", None),
        ({"train/accuracy": 99.0}, None, None),
    ],
)
def test_a_runs_accuracy_is_that_on_test_images_or_else_on_those_held_out(numbers, name, value):
    assert accuracy_name(numbers) == name and accuracy_of(numbers) == value


def test_null_is_no_number_where_nothing_was_measured_and_a_training_loss_alone_is_no_divergence(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("entry: train_search\nepochs: 1\n")
    records = [
        {"event": "selection", "epoch": 0, "step": 1, "operation": None},
        {"event": "epoch", "epoch": 0, "step": 2, "train/loss": None, "valid/loss": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    run = read_run(tmp_path)
    assert run.decisions[0]["operation"] is None and not run.diverged
    (tmp_path / "metrics.jsonl").write_text(json.dumps(records[1] | {"valid/loss": None}) + "\n")
    assert read_run(tmp_path).diverged
