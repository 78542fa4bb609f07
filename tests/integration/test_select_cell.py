"""A cell is selected from a finished search by one command."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_entries import SMALL_SEARCH

from darts_hpc.commands import select_cell, train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.train_search import SearchConfig

PT = ["--pt_epochs_between", "1", "--pt_batches", "1"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    return search(tmp_path_factory.mktemp("searched") / "run")


def search(save: Path, *flags: str) -> Path:
    """Run a search that stops after its first epoch, of three."""
    stops = ["--epochs", "3", "--early_stop", "skips", "--max_skips", "0", "--early_stop_from", "0"]
    return train_search.main(
        parse_config(SearchConfig, [*SMALL_SEARCH, "--batch_size", "48", *stops, *flags, "--save", str(save)])
    )


def select(search: Path, save: Path) -> Path:
    return select_cell.main(parse_config(SelectCellConfig, [str(search), "--save", str(save), *PT]))


def test_it_goes_on_where_the_search_ended_as_the_same_command_would_have(searched, tmp_path):
    before = {path: path.read_bytes() for path in searched.glob("*") if path.is_file()}
    selected = select(searched, tmp_path / "selected")
    lines = [json.loads(line) for line in (selected / "metrics.jsonl").read_text().splitlines()]
    decided = [line for line in lines if line["event"] == "selection"]
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert len(decided) == 34 and [line["epoch"] for line in epochs] == list(range(1, 18))
    assert epochs[0]["learning_rate"] == pytest.approx(0.0025)
    searches_own = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()][-1]
    assert epochs[0]["train/loss"] < searches_own["train/loss"]  # its weights are the search's, a good deal better
    assert {path: path.read_bytes() for path in before} == before
    whole = search(tmp_path / "whole", "--selection", "perturbation", *PT)
    for file in ("weights.pt", "alphas.pt"):
        expected = torch.load(whole / file, weights_only=True)
        found = torch.load(selected / file, weights_only=True)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_folder_without_a_finished_search_is_refused(searched, tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        select(tmp_path, tmp_path / "new")
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint"):
        select(copy, tmp_path / "new")
    (copy / "result.json").unlink()
    with pytest.raises(ValueError, match="holds no finished search"):
        select(copy, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("selection: perturbation", "selected by perturbation already.*; give the search that it came from"),
        ("relaxation: gumbel", "was searched with --relaxation gumbel: expected softmax or dirichlet"),
        ("data: ", "was trained on other images than are there now"),
    ],
)
def test_a_search_from_which_no_cell_can_be_selected_is_refused(searched, tmp_path, flag, message):
    copy, name = tmp_path / "copy", flag.partition(":")[0]
    shutil.copytree(searched, copy)
    lines = (copy / "config.yaml").read_text().splitlines()
    if name == "data":
        (data,) = (Path(line.partition(": ")[2]) for line in lines if line.startswith("data: "))
        shutil.copytree(data, tmp_path / "data")
        next((tmp_path / "data" / "train").glob("*/*.png")).unlink()
        flag += str(tmp_path / "data")
    written = [flag if line.startswith(f"{name}:") else line for line in lines]
    (copy / "config.yaml").write_text("\n".join(written))
    with pytest.raises(ValueError, match=message) as caught:
        select(copy, tmp_path / "new")
    assert written != lines and "\n" not in str(caught.value) and not (tmp_path / "new").exists()
