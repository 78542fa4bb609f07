"""A training by the plain and by the fast form of its network is the same, and goes on in the other form."""

import json
import signal
from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from run_entries import TINY, entry, entry_killed_at_batch

from darts_hpc.commands import evaluate, train
from darts_hpc.config.cli import parse_config
from darts_hpc.config.evaluate import EvaluateConfig
from darts_hpc.config.train import TrainConfig

FLAGS = [*TINY, "--image_size", "4", "--arch", "DARTS_V1", "--drop_path_prob", "0.3"]


def run(folder: Path, *flags: object) -> dict[str, float]:
    """Train in this process; return its last numbers."""
    torch.set_num_threads(1)
    train.main(parse_config(TrainConfig, [*FLAGS, *map(str, flags), "--save", f"{folder}/"]))
    return json.loads((folder / "result.json").read_text())["final"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run(folder, "--network", "plain")
    return folder


def assert_like(folder: Path, plain: Path) -> None:
    """Compare final weights as one vector: rounding sends some ReLUs another way, from which steps go apart."""
    states = [torch.load(run / "weights.pt", weights_only=True) for run in (folder, plain)]
    assert list(states[0]) == list(states[1])
    found, expected = (torch.cat([tensor.double().flatten() for tensor in state.values()]) for state in states)
    assert (found - expected).norm() <= 5e-3 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("forms", [("plain", "fast"), ("fast", "plain")], ids=" to ".join)
def test_a_stopped_training_goes_on_in_the_other_form(forms, plain, tmp_path):
    folder = tmp_path / "run"
    flags = [*FLAGS, "--save", folder]
    stopped = entry_killed_at_batch(9, "train", *flags, "--network", forms[0], KILL_SIGNAL="SIGTERM")
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    finished = entry("train", *flags, "--network", forms[1], "--resume", "auto")
    assert finished.returncode == 0, finished.stderr
    assert f"network: {forms[0]} in the checkpoint, {forms[1]} now; the rest of the run may differ" in finished.stderr
    assert "going on in epoch 2 after step 2" in finished.stderr
    assert_like(folder, plain)


def test_two_processes_train_the_fast_form_as_one_does_on_the_joined_batch(plain, tmp_path):
    split = on_ranks(2, run, tmp_path / "two", "--network", "fast", "--sync_bn", "--batch_size", 120)[0]
    assert_like(tmp_path / "two", plain)
    expected = json.loads((plain / "result.json").read_text())["final"]
    assert split["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-3)


def test_a_network_that_has_no_fast_form_is_trained_and_tested_in_its_plain_one(tmp_path, capfd):
    own = '{"normal": [["none", 0], ["none", 1]], "normal_concat": [2], "reduce": [["sep_conv_3x3", 0], '
    own += '["sep_conv_3x3", 1]], "reduce_concat": [2]}'
    run(tmp_path / "run", "--network", "fast", "--arch", own, "--epochs", 1)
    reason = "the fast network does not support a cell with a state that nothing learns from: taking the plain one"
    assert reason in capfd.readouterr().err
    flags = ["--model_path", str(tmp_path / "run"), "--network", "fast", "--device", "cpu"]
    evaluate.main(parse_config(EvaluateConfig, flags))
    assert reason in capfd.readouterr().out


def test_evaluation_in_the_fast_form_repeats_the_accuracy(plain, capsys):
    final = json.loads((plain / "result.json").read_text())["final"]
    flags = ["--model_path", str(plain), "--network", "fast", "--device", "cpu"]
    evaluate.main(parse_config(EvaluateConfig, flags))
    assert f"test accuracy {final['test/accuracy']:.2f} %" in capsys.readouterr().out
