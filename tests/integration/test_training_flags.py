"""Flags that train, train_search and train_imagenet share do in each what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from few_digits import few_digits
from ranks import on_ranks
from run_entries import FEW, SMALL_SEARCH, TINY
from torch import nn

from darts_hpc.commands import evaluate as evaluate_entry
from darts_hpc.commands import train, train_search
from darts_hpc.commands.train_search import search_sources
from darts_hpc.config.cli import parse_config
from darts_hpc.config.evaluate import EvaluateConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig, SearchRuntimeConfig
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.search.architect import Architect
from darts_hpc.space.spaces import SPACES
from darts_hpc.training import search_step
from darts_hpc.training.loops import evaluate

ENTRIES: dict[str, tuple[Any, type, type[nn.Module], list[str]]] = {
    "train": (train.main, TrainConfig, DerivedNetwork, [*TINY, "--image_size", "4", "--arch", "DARTS_V1"]),
    "train_search": (
        *(train_search.main, SearchConfig, RelaxedNetwork),
        SMALL_SEARCH,
    ),
}


NETWORK = ["--arch", "DARTS_V1", "--dataset", "digits", "--init_channels", "4", "--layers", "3"]


def run(name: str, folder: Path, *flags: object) -> dict[str, float]:
    """Run an entry for one epoch in this process; return its last numbers."""
    main, cls, _, small = ENTRIES[name]
    torch.set_num_threads(1)
    main(parse_config(cls, [*small, "--epochs", "1", *map(str, flags), "--save", f"{folder}/"]))
    return json.loads((folder / "result.json").read_text())["final"]


@pytest.mark.parametrize("ema", [0, 0.9])
def test_two_processes_of_train_report_the_accuracy_of_the_weights_that_they_save(ema, tmp_path, capsys, monkeypatch):
    final = on_ranks(2, run, "train", tmp_path / "run", "--batch_size", 120, "--replica_check", 1, "--ema", ema)[0]
    for weights in (tmp_path / "run", tmp_path / "run" / "weights.pt"):
        network = [*NETWORK, "--image_size", "4"] if weights.is_file() else []
        evaluate_entry.main(parse_config(EvaluateConfig, ["--model_path", str(weights), "--device", "cpu", *network]))
        said = capsys.readouterr().out
        assert f"accuracy {final['test/accuracy']:.2f} %" in said and f"loss {final['test/loss']:.4f}" in said
    newest = CheckpointStore(tmp_path / "run" / "checkpoints").load_newest()
    assert newest is not None
    state = newest.load("state")["objects"]
    exported = torch.load(tmp_path / "run" / "weights.pt", weights_only=True)
    for name in ("classifier.weight", "cells.0.preprocess0.op.2.running_var"):
        kept = {
            part: bool(torch.equal(exported[name], state[part][name]))
            for part in ("network", "average")
            if part in state
        }
        assert kept == ({"network": False, "average": True} if ema else {"network": True})


def test_two_processes_of_a_search_report_the_accuracy_of_the_weights_that_they_save(tmp_path):
    final = on_ranks(2, run, "train_search", tmp_path / "run", "--batch_size", 12)[0]
    supernet, world = build_supernet("plain", 4, 3, 10, space=SPACES["s2"]), World(torch.device("cpu"))
    state = {
        name: tensor
        for file in ("weights.pt", "alphas.pt")
        for name, tensor in torch.load(tmp_path / "run" / file, weights_only=True).items()
    }
    supernet.load_state_dict(state)
    cfg = parse_config(SearchConfig, ENTRIES["train_search"][3])
    data = load_dataset("folder", few_digits(), image_size=4)
    found = evaluate(supernet, search_sources(data, cfg.data, cfg.run.seed, world)[2]).compute(world)
    assert found["accuracy"] == pytest.approx(final["valid/accuracy"], abs=1e-9)
    assert found["loss"] == pytest.approx(final["valid/loss"], rel=1e-5)


@pytest.mark.parametrize("name", ENTRIES)
def test_images_and_weights_have_the_layout_that_is_asked_for(name, tmp_path, monkeypatch):
    network, seen = ENTRIES[name][2], set()
    call = network.__call__

    def spy(self, images, *args):
        if images.device.type != "meta" and len(images):  # its costs are counted without images
            kernels = [weight for weight in self.parameters() if weight.dim() == 4 and min(weight.shape[1:3]) > 1]
            tensors = [images, *kernels]
            seen.add(tuple(t.is_contiguous(memory_format=torch.channels_last) for t in tensors))
        return call(self, images, *args)

    monkeypatch.setattr(network, "__call__", spy)
    for flag, expected in (("--channels_last", True), ("--no_channels_last", False)):
        seen.clear()
        run(name, tmp_path / flag, flag)
        assert len(seen) == 1 and set(seen.pop()) == {expected}


def test_train_takes_a_global_batch_a_number_format_and_smooth_labels(tmp_path):
    plain = run("train", tmp_path / "plain")
    halves = run("train", tmp_path / "halves", "--batch_size", 120, "--global_batch_size", 240)
    assert len((tmp_path / "halves" / "metrics.jsonl").read_text().splitlines()) == 6  # 5 steps, and the epoch
    assert halves["train/loss"] == pytest.approx(plain["train/loss"], rel=0.05) and halves != plain
    assert run("train", tmp_path / "auto", "--precision", "auto") == plain  # on a CPU
    assert run("train", tmp_path / "bf16", "--precision", "bf16")["train/loss"] == pytest.approx(
        plain["train/loss"], rel=0.05
    )
    assert run("train", tmp_path / "smooth", "--label_smooth", 0.3)["test/loss"] != plain["test/loss"]


def epochs_and_weights(folder: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if r["event"] == "epoch"], torch.load(folder / "weights.pt", weights_only=True)


def test_a_training_that_is_evaluated_less_often_is_the_same_training(tmp_path):
    flags = [*FEW, "--epochs", 3]
    finals = [run("train", tmp_path / str(n), *flags, "--eval_freq", n) for n in (1, 2)]
    (every, weights), (some, same) = (epochs_and_weights(tmp_path / str(n)) for n in (1, 2))
    assert finals[0] == finals[1] and weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    untested = {name: value for name, value in every[0].items() if not name.startswith("test/")}
    assert some == [untested, *every[1:]] and "test/accuracy" in every[0]
    best = [json.loads((tmp_path / str(n) / "result.json").read_text())["best"] for n in (1, 2)]
    assert best[1] == max(({"test/accuracy": e["test/accuracy"], "epoch": e["epoch"]} for e in every[1:]),
                          key=lambda found: found["test/accuracy"])  # fmt: skip


def test_a_search_resolves_auto_to_what_the_device_computes_in(monkeypatch):
    seen = []
    monkeypatch.setattr(search_step, "search_step", lambda *args, precision, **kwargs: seen.append(precision))
    supernet, world = build_supernet("plain", 2, 3, 10), World(torch.device("cpu"))
    architect = Architect(supernet, learning_rate=0.1, weight_decay=0.0, unrolled_method=None, world=world)
    optimizer = torch.optim.SGD(supernet.weights(), 0.1)
    batch = torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64)
    for asked in ("auto", "bf16"):
        cfg = SearchRuntimeConfig(precision=asked)
        search_step.build_search_step(supernet, architect, optimizer, grad_clip=5.0, world=world, cfg=cfg)(batch, batch)
    assert seen == ["fp32", "bf16"]


def test_a_run_leaves_torchs_settings_as_they_were(tmp_path):
    def settings() -> tuple:
        tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, tf32

    before = settings()
    for name in ENTRIES:
        run(name, tmp_path / name, "--deterministic")
        assert settings() == before


def test_evaluate_repeats_the_accuracy_on_the_images_that_a_training_held_out(tmp_path, capsys):
    final = run("train", tmp_path / "run", "--held_out", 0.2, "--seed", 3)
    for flags, said in (([], "valid accuracy {valid/accuracy:.2f} % on 28"), (["--held_out", "0"], "test accuracy")):
        arguments = ["--model_path", str(tmp_path / "run"), "--device", "cpu", *flags]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["evaluate", *arguments])
            evaluate_entry.main(parse_config(EvaluateConfig, arguments))
        assert said.format(**final) in capsys.readouterr().out
