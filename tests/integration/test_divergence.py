"""A run whose numbers are no longer finite ends with one line and exit code 2, and leaves nothing of them behind."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks
from run_entries import SMALL_SEARCH, TINY

from darts_hpc.commands import train, train_imagenet, train_search
from darts_hpc.config.cli import run_entry
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.finite import first_not_finite
from darts_hpc.search.architect import Architect
from darts_hpc.training import train_network

ENTRIES: dict[str, tuple[Any, type]] = {
    "train_search": (train_search.main, SearchConfig),
    "train": (train.main, TrainConfig),
    "train_imagenet": (train_imagenet.main, ImageNetConfig),
}
SMALL = {
    "train_search": SMALL_SEARCH,  # an epoch has 2 steps
    "train": [*TINY, "--image_size", "4", "--arch", "DARTS_V1"],  # 5 steps
    "train_imagenet": [
        *["--loader", "synthetic", "--synthetic_images", "75", "--synthetic_classes", "6", "--image_size", "32"],
        *["--init_channels", "4", "--layers", "3", "--batch_size", "12", "--epochs", "2", "--device", "cpu"],
        *["--no-tensorboard"],
    ],
}
EXPLODE = {
    "train_search": ["--learning_rate", "1e12", "--grad_clip", "1e12"],
    "train": ["--learning_rate", "1e30", "--grad_clip", "1e30"],
    "train_imagenet": ["--learning_rate", "1e30", "--grad_clip", "1e30"],
}


def diverge(capfd, name: str, *flags: object, processes: int = 1, before: Any = lambda: None) -> str:
    """Run an entry, after `before` in each process, and return the one line with which it is to end in exit code 2."""
    main, cls = ENTRIES[name]

    def run() -> None:
        sys.argv = [name, *SMALL[name], *map(str, flags)]
        torch.set_num_threads(1)
        before()
        run_entry(main, cls)

    capfd.readouterr()
    on_ranks(processes, run, status=2)
    told = capfd.readouterr()
    said = [line for line in told.err.splitlines() if "error:" in line]
    assert len(said) == 1 and "diverged" in said[0], told.err
    assert "genotype = " not in told.err
    return said[0]


def parse_strictly(text: str) -> object:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check_folder(folder: Path) -> CheckpointStore:
    """No result, no weights, no cell but the first, no checkpoint that is not finite, no file that is not JSON."""
    assert not {"result.json", "weights.pt", "alphas.pt"} & {path.name for path in folder.iterdir()}
    for path in folder.glob("*.json*"):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            parse_strictly(text)
    assert "epoch_end" not in (folder / "genotypes.jsonl").read_text()
    store = CheckpointStore(folder / "checkpoints")
    for path in folder.glob("checkpoints/step-*"):
        for file in path.glob("*.pt"):
            assert first_not_finite(torch.load(file, weights_only=True)) is None
    return store


def poison_batches(*, train: bool, at: tuple[int, int], then: int = 0) -> None:
    """Make a batch of (epoch, step) NaN, of the training or else of the evaluation, and send a signal if asked to."""
    make = BatchSource.batch

    def batch(self, epoch, step):
        made = make(self, epoch, step)
        if (self.augmentation is not None) == train and (epoch, step) == at:
            if then:
                os.kill(os.getpid(), then)
            return made._replace(images=made.images * float("nan"))
        return made

    BatchSource.batch = batch


@pytest.mark.parametrize(
    ("name", "processes"), [("train_search", 2), ("train", 1), ("train", 2), ("train_imagenet", 1)]
)
def test_a_rate_that_is_far_too_high_ends_the_run_before_it_saves(name, processes, capfd, tmp_path):
    flags = [*EXPLODE[name], "--report_freq", 100, "--checkpoint_freq", 1, "--save", f"{tmp_path}/run"]
    said = diverge(capfd, name, *flags, processes=processes)
    assert re.search(r"after step \d+ of epoch \d|in step \d+ of epoch \d", said) and "--learning_rate" in said
    check_folder(tmp_path / "run")


def test_curvature_that_is_not_finite_ends_a_search_like_any_other_number(capfd, tmp_path):
    curvature = ["--record_eigenvalue", "--eigenvalue_every", 1]
    said = diverge(capfd, "train_search", "--learning_rate", 1e12, *curvature, "--save", f"{tmp_path}/run")
    assert "is not finite after step 2 of epoch 1" in said
    check_folder(tmp_path / "run")


def test_a_step_is_named_at_the_next_report_and_the_checkpoint_before_it_stands(capfd, tmp_path):
    flags = ["--report_freq", 2, "--checkpoint_freq", 1, "--save", f"{tmp_path}/run"]
    poison = lambda: poison_batches(train=True, at=(1, 2))  # noqa: E731
    assert "in step 3 of epoch 2" in diverge(capfd, "train", *flags, before=poison)
    newest = check_folder(tmp_path / "run").load_newest()
    assert newest is not None
    position = newest.load("state")["position"]
    assert (position["epoch"], position["step"], position["global_step"]) == (1, 2, 7)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 5, 7]


@pytest.mark.parametrize(("name", "last"), [("train", 5), ("train_search", 2)])
def test_the_last_step_of_the_last_epoch_counts_too(name, last, capfd, tmp_path):
    flags = ["--report_freq", 100, "--epochs", 1, "--save", f"{tmp_path}/run"]
    poison = lambda: poison_batches(train=True, at=(0, last - 1))  # noqa: E731
    assert f"in step {last} of epoch 1" in diverge(capfd, name, *flags, before=poison)
    assert check_folder(tmp_path / "run").load_newest() is None


def test_a_signal_saves_nothing_of_a_run_that_diverged(capfd, tmp_path):
    flags = ["--report_freq", 100, "--save", f"{tmp_path}/run"]
    poison = lambda: poison_batches(train=True, at=(0, 2), then=signal.SIGTERM)  # noqa: E731
    assert "in step 3 of epoch 1" in diverge(capfd, "train", *flags, before=poison)
    assert check_folder(tmp_path / "run").load_newest() is None


@pytest.mark.parametrize(("name", "number"), [("train", "test/loss"), ("train_search", "valid/loss")])
def test_a_loss_that_is_not_finite_in_validation_alone_ends_the_run(name, number, capfd, tmp_path):
    flags = ["--report_freq", 100, "--save", f"{tmp_path}/run"]
    poison = lambda: poison_batches(train=False, at=(0, 0))  # noqa: E731
    said = diverge(capfd, name, *flags, before=poison)
    assert f"{number} is not finite after step" in said and "of epoch 1" in said
    check_folder(tmp_path / "run")


def test_alphas_that_are_not_finite_end_a_search(capfd, tmp_path):
    def poison() -> None:
        step = Architect.step

        def poisoned(self, *args):
            norm = step(self, *args)
            with torch.no_grad():
                self.supernet.alphas_reduce[3, 1] = float("inf")
            return norm

        Architect.step = poisoned  # pyright: ignore[reportAttributeAccessIssue]

    flags = ["--report_freq", 100, "--save", f"{tmp_path}/run"]
    assert "in step 1 of epoch 1" in diverge(capfd, "train_search", *flags, before=poison)
    check_folder(tmp_path / "run")


def test_a_momentum_that_is_not_finite_after_the_last_step_leaves_no_record_of_its_epoch(capfd, tmp_path):
    """The loss does not show it: only a further step would."""

    def poison() -> None:
        judge = train_network.evaluate

        def poisoned(network, source, run, *args, **more):
            optimizer = run._state["optimizer"].optimizer
            next(iter(optimizer.state.values()))["momentum_buffer"][0] = float("inf")
            return judge(network, source, run, *args, **more)

        train_network.evaluate = poisoned

    said = diverge(capfd, "train", "--epochs", 1, "--report_freq", 100, "--save", f"{tmp_path}/run", before=poison)
    assert "optimizer.momentum_buffer.stem.0.weight is not finite after step 5 of epoch 1" in said
    check_folder(tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_weights_of_a_training_that_diverged_are_not_evaluated_as_if_they_were_any_others(capfd, tmp_path):
    from darts_hpc.commands import evaluate
    from darts_hpc.config.evaluate import EvaluateConfig
    from darts_hpc.models.derived import DerivedNetwork
    from darts_hpc.space.genotypes import load_genotype

    state = DerivedNetwork("cifar", 4, 10, 3, False, load_genotype("DARTS_V1")).state_dict()
    state["classifier.weight"] = state["classifier.weight"].sign() * 3e38  # finite, and no logit is
    torch.save(state, tmp_path / "weights.pt")

    def run() -> None:
        flags = ["--dataset", "digits", "--image_size", "4", "--arch", "DARTS_V1", "--init_channels", "4"]
        sys.argv = ["evaluate", "--model_path", f"{tmp_path}/weights.pt", *flags, "--layers", "3", "--device", "cpu"]
        run_entry(evaluate.main, EvaluateConfig)

    on_ranks(1, run, status=2)
    told = capfd.readouterr()
    assert "error: the test loss is nan" in told.err and "accuracy" not in told.out


def test_a_stop_rule_does_not_decide_by_weights_that_are_not_finite(capfd, tmp_path):
    flags = ["--early_stop", "eigenvalue", "--batch_size", 70, "--learning_rate", "1e38", "--grad_clip", "1e38"]
    assert "of epoch 1" in diverge(capfd, "train_search", *flags, "--save", f"{tmp_path}/run")
    check_folder(tmp_path / "run")
