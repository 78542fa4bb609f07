"""The main job from its entry points: search, train, evaluate, draw and report, on the embedded data set."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from run_entries import FEW, SMALL_SEARCH, TINY, entry, start

from darts_hpc.commands import train
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.models.state_dicts import load_original
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import load_genotype, parse_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.training import train_network

pytestmark = pytest.mark.slow
TENSORBOARD = [*(flag for flag in TINY if flag != "--no-tensorboard"), "--memory_check", "auto"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "run"
    done = entry(
        "train_search",
        *TENSORBOARD,
        "--image_size",
        4,
        "--batch_size",
        480,
        "--unrolled",
        "--unrolled_method",
        "exact",
        "--save",
        folder,
    )
    assert done.returncode == 0, done.stderr
    assert "no GPU in use" in done.stderr and "genotype = Genotype(normal=" in done.stderr
    assert re.search(r"epoch 1 of 2, step 1 of \d: loss", done.stderr)
    assert done.stderr.endswith(f"\nnext: python -m darts_hpc.train --dataset digits --image_size 4 --arch {folder}\n")
    return folder


@pytest.fixture(scope="module")
def trained(searched) -> Path:
    folder = searched.parent / "trained"
    done = entry("train", *TENSORBOARD, "--arch", searched, "--auxiliary", "--save", folder)
    assert done.returncode == 0, done.stderr
    return folder


def lines(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_the_genotype_is_logged_before_the_first_epoch_and_after_every_one(searched):
    logged = lines(searched, "genotypes")
    assert [(line["epoch"], line["when"]) for line in logged] == [
        (0, "before_first_epoch"),
        (0, "epoch_end"),
        (1, "epoch_end"),
    ]
    final = json.loads((searched / "result.json").read_text())["genotype"]
    assert logged[-1]["genotype"] == final
    assert load_genotype(str(searched)) == parse_genotype(final)


def test_alphas_are_saved_and_give_the_final_genotype(searched):
    alphas = torch.load(searched / "alphas.pt", weights_only=True)
    strengths = {kind: alphas[f"alphas_{kind}"].softmax(-1) for kind in ("normal", "reduce")}
    assert derive_genotype(strengths, SPACES["darts"]) == load_genotype(str(searched))
    recorded = lines(searched, "metrics")[-1]["alphas/normal"]
    shares = alphas["alphas_normal"].double().softmax(-1)
    torch.testing.assert_close(torch.tensor(recorded, dtype=torch.float64), shares)


def test_search_weights_are_in_the_originals_layout(searched):
    weights = torch.load(searched / "weights.pt", weights_only=True)
    assert not any(name.startswith("alphas") for name in weights)
    load_original(SuperNet(4, 3, 10), weights)


def test_a_run_folder_has_all_that_the_design_promises(searched, trained):
    for folder in (searched, trained):
        names = {path.name for path in folder.iterdir()}
        promised = (
            "config.yaml command.txt environment.json log.rank0.txt metrics.jsonl performance.jsonl genotypes.jsonl"
        )
        assert {*promised.split(), "result.json", "weights.pt", "checkpoints"} <= names
        assert any(name.startswith("events.out.tfevents") for name in names)
    command = (trained / "command.txt").read_text()
    assert command.startswith("python -m darts_hpc.train ") and f"--arch {searched}" in command


def test_metrics_hold_what_tensorboard_shows(searched, trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pictures = set()
    for folder in (searched, trained):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        shown = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
        records = lines(folder, "metrics")
        wanted = {"train/loss", "train/accuracy", "learning_rate", "grad_norm/weights"}
        assert wanted <= set(shown) and "performance/images_per_second" in shown
        pictures |= set(events.Tags()["images"])
        for tag in wanted:
            recorded = {record["step"]: record[tag] for record in records if tag in record}
            assert shown[tag] == pytest.approx(recorded, rel=1e-6)
    assert {"alphas/normal", "alphas/reduce"} <= pictures
    assert "cells" in pictures or shutil.which("dot") is None


def test_evaluation_gives_the_last_epochs_accuracy_from_every_form_of_the_weights(trained, tmp_path):
    final = json.loads((trained / "result.json").read_text())["final"]["test/accuracy"]
    expected = f"test accuracy {final:.2f} % on 360 images of digits"
    weights = torch.load(trained / "weights.pt", weights_only=True)
    # As PyTorch 0.3 under DataParallel wrote it: a prefix, no counters, the old file format.
    old = {f"module.{name}": t for name, t in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save({"epoch": 250, "state_dict": old}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    network = ["--dataset", "digits", "--image_size", 8, "--init_channels", 4, "--layers", 3, "--arch", trained]
    for flags in (
        ["--model_path", trained],
        ["--model_path", trained / "weights.pt", "--auxiliary", *network],
        ["--model_path", tmp_path / "old.pt", *network],
    ):
        done = entry("evaluate", "--device", "cpu", *flags)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_evaluating_a_search_says_to_train_its_cell(searched):
    done = entry("evaluate", "--model_path", searched)
    assert done.returncode == 2 and f"darts_hpc.train --arch {searched}" in done.stderr


def test_the_report_names_the_final_accuracy_of_both_runs(searched, trained, tmp_path):
    done = entry("report", searched, trained, "--output", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    final = json.loads((trained / "result.json").read_text())["final"]["test/accuracy"]
    assert (
        f"{final:.2f} %" in done.stdout and "Genotype(normal=" in done.stdout and "tensorboard --logdir" in done.stdout
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"{final:.2f}" in page and not re.search(r"""(src|href)=["']https?:""", page)


def test_neither_a_search_nor_a_training_imports_torchs_compiler(tmp_path):
    search = [*SMALL_SEARCH, "--epochs", "1", "--save", f"{tmp_path}/search"]
    training = [*TINY, *FEW, "--epochs", "1", "--arch", "DARTS_V1", "--save", f"{tmp_path}/training"]
    code = f"""
import sys
for name in ("torch._dynamo", "torch._inductor", "torchvision"):
    sys.modules[name] = None  # whoever imports it fails
from darts_hpc import train, train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
train_search.main(parse_config(SearchConfig, {search}))
train.main(parse_config(TrainConfig, {training}))
"""
    done = start(["-c", code])
    assert done.returncode == 0, done.stderr


def test_drop_path_rises_linearly_and_never_reaches_its_full_rate(tmp_path, monkeypatch):
    seen = []
    original = train_network.train_epoch

    def spy(network, *args):
        seen.append(float(network.drop_path_prob))
        return original(network, *args)

    monkeypatch.setattr(train_network, "train_epoch", spy)
    flags = [*TINY, "--arch", "DARTS_V1", "--drop_path_prob", "0.4", "--epochs", "4", "--save", str(tmp_path / "run")]
    train.main(parse_config(TrainConfig, flags))
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    losses = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        flags = [*TINY, "--arch", "DARTS_V1", "--epochs", "1", "--seed", str(seed), "--save", str(tmp_path / name)]
        train.main(parse_config(TrainConfig, flags))
        losses.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert losses[0] == losses[1] != losses[2]


def test_with_held_out_images_a_training_never_looks_at_the_test_images(tmp_path, monkeypatch):
    load, seen = train.load_dataset, []

    def without_test_images(*args, **kwargs):
        data = load(*args, **kwargs)
        if not seen:
            return data
        return dataclasses.replace(data, test=ImageSet(255 - data.test.images, data.test.labels.roll(1)))

    monkeypatch.setattr(train, "load_dataset", without_test_images)
    for name in ("a", "b"):
        flags = [*TINY, "--arch", "DARTS_V1", "--held_out", "0.25", "--epochs", "1", "--save", str(tmp_path / name)]
        folder = train.main(parse_config(TrainConfig, flags))
        seen.append((folder / "metrics.jsonl").read_bytes())
        final = json.loads((folder / "result.json").read_text())["final"]
        assert "valid/accuracy" in final and not any(key.startswith("test/") for key in final)
    assert seen[0] == seen[1]
