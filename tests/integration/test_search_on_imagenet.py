"""A search on images that are read batch by batch: equal on any number of processes, resumable, and trained from."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from test_train_imagenet import make_photos, train

from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.imagenet.read.samples import Samples

SMALL = ["--dataset", "imagenet", "--image_size", "32", "--resize", "36", "--num_threads", "1", "--device", "cpu"]
SMALL += ["--weight_share", "0.4", "--alpha_share", "0.2", "--space", "s2", "--init_channels", "2", "--layers", "3"]
SMALL += ["--epochs", "2", "--report_freq", "1", "--no-tensorboard", "--memory_check", "off", "--batch_size", "6"]
"""72 images for the weights and 36 for the alphas: 6 and 3 steps an epoch of two processes."""


def search(*flags: object, double: bool = False, kill_at: int = 0) -> None:
    """Search in this process, a fork: in float64, or killed at training batch number kill_at."""
    torch.set_num_threads(1)
    finish, build, taken = Samples.finish, train_search.build_search_supernet, [0]

    def finished(self, epoch, ids, pixels):
        taken[0] += self.order.shuffle
        if taken[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = finish(self, epoch, ids, pixels)
        return batch._replace(images=batch.images.double()) if double else batch

    Samples.finish = finished
    if double:
        train_search.build_search_supernet = lambda *args: build(*args).double()  # pyright: ignore
    train_search.main(parse_config(SearchConfig, [*SMALL, *map(str, flags)]))


def outcome(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file}: {name}": tensor
        for file in ("weights.pt", "alphas.pt")
        for name, tensor in torch.load(folder / file, weights_only=True).items()
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    pytest.importorskip("nvidia.dali")
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def on_two(photos, tmp_path_factory) -> Path:
    """A search of two processes whose alphas wait for an epoch."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    on_ranks(2, search, "--data", photos, "--alpha_warmup_epochs", 1, "--save", folder)
    return folder


def test_two_processes_find_the_alphas_of_one_on_the_joined_batch(photos, tmp_path):
    flags = ["--data", photos, "--sync_bn", "--epochs", 1, "--arch_learning_rate", 0.01]
    run = lambda *more: search(*flags, *more, double=True)  # noqa: E731
    on_ranks(1, run, "--batch_size", 12, "--save", tmp_path / "one")
    on_ranks(2, run, "--save", tmp_path / "two")
    one, two = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    assert one["alphas.pt: alphas_normal"].dtype == torch.float64
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_killed_within_an_epoch_and_resumed_it_ends_bit_for_bit_as_if_undisturbed(photos, on_two, tmp_path):
    flags = ["--data", photos, "--alpha_warmup_epochs", 1, "--checkpoint_freq", 1, "--save", f"{tmp_path}/run/"]
    # the first epoch reads no alphas: 6 batches, and then 2 a step
    on_ranks(2, lambda: search(*flags, kill_at=13), status=-signal.SIGKILL)
    on_ranks(2, search, *flags, "--resume", "auto")
    assert "going on in epoch 2 after step 3" in (tmp_path / "run" / "log.rank0.txt").read_text()
    whole, resumed = outcome(on_two), outcome(tmp_path / "run")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    for name in ("metrics.jsonl", "genotypes.jsonl"):
        assert (on_two / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_records_show_held_alphas_the_wait_for_data_and_each_image_validated(on_two):
    epochs = [json.loads(line) for line in (on_two / "genotypes.jsonl").read_text().splitlines()]
    assert epochs[0]["genotype"] == epochs[1]["genotype"]
    records = [json.loads(line) for line in (on_two / "performance.jsonl").read_text().splitlines()]
    speeds = [record for record in records if record["event"] == "performance"]
    assert len(speeds) == 12 and all(0 < speed["performance/data_wait_share"] < 1 for speed in speeds)
    last = json.loads((on_two / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["valid/accuracy"] * 36 / 100) == pytest.approx(round(last["valid/accuracy"] * 36 / 100))


def test_the_cell_is_trained_by_train_imagenet_as_it_is(on_two, tmp_path):
    on_ranks(1, train, "--arch", on_two, "--epochs", 1, "--batch_size", 48, "--save", f"{tmp_path}/trained")
    found, trained = (json.loads((folder / "result.json").read_text()) for folder in (on_two, tmp_path / "trained"))
    assert trained["genotype"] == found["genotype"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--data", "{}/nowhere"],
            "nowhere does not exist; expected a folder with train/ and val/, or with tar shards",
        ),
        (["--data", "{}"], "has no train/"),
    ],
)
def test_no_images_is_one_line_of_all_processes(flags, said, tmp_path, capfd):
    def run() -> None:
        sys.argv = ["train_search", *SMALL, "--loader", "torchvision", *(flag.format(tmp_path) for flag in flags)]
        run_entry(train_search.main, SearchConfig)

    on_ranks(2, run, status=2)
    lines = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1 and said in lines[0], lines
