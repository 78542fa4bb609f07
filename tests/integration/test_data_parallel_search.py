"""Several ranks with synchronised BatchNorm search as one process does on the joined batch."""

import functools
import json
import os
import sys

import pytest
import torch
from ranks import on_ranks
from run_entries import SMALL_SEARCH, records

from darts_hpc import train_search
from darts_hpc.commands import train_search as train_search_command
from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.batches import Batch, BatchSource
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.space.spaces import uniform_space
from darts_hpc.training.search_step import search_step

STEPS, JOINED = 2, 8


def search(kind: str, method: str | None) -> dict[str, torch.Tensor]:
    """Take some steps in float64, each rank on its slice; return what they were like, averaged where ranks differ."""
    torch.set_num_threads(1)
    with World.open("cpu") as world:
        torch.manual_seed(0)
        supernet = build_supernet(kind, 2, 3, 5, num_nodes=4 if kind == "stacked" else 2).double()
        with torch.no_grad():
            for alpha in supernet.alphas():
                alpha.normal_()
        supernet = supernet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - as the entry's
        synchronise_batch_norm(supernet, world)
        optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4, fused=True)
        architect = Architect(supernet, learning_rate=0.01, weight_decay=1e-3, unrolled_method=method, world=world)
        share = JOINED // world.size
        mine = slice(world.rank * share, (world.rank + 1) * share)
        outcome, gradients, take = {}, [], architect.gradient
        architect.gradient = lambda *args: gradients.append(take(*args)) or gradients[-1]  # pyright: ignore
        for step in range(STEPS):
            images = torch.randn(2, JOINED, 3, 4, 4, dtype=torch.float64)
            labels = torch.randint(5, (2, JOINED))
            train, valid = ((images[half, mine], labels[half, mine]) for half in range(2))
            numbers = search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=world)
            for name, gradient in zip(supernet.named_alphas(), gradients[step], strict=True):
                outcome[f"{step}: gradient of {name}"] = gradient.clone()
            outcome[f"{step}: loss"] = world.mean([numbers.loss])[0]
        outcome |= {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    return {name: tensor.detach() for name, tensor in outcome.items()}


METHODS = ("finite_difference", "exact")
CASES = [*((kind, method, 2) for kind in ("plain", "stacked") for method in METHODS), ("plain", None, 4)]


@pytest.fixture(scope="module")
def search_alone():
    """Outcome of one process's search; each is run once."""
    return functools.cache(lambda kind, method: on_ranks(1, search, kind, method)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method", "ranks"), CASES)
def test_ranks_equal_one_process_on_the_joined_batch(kind, method, ranks, search_alone):
    alone = search_alone(kind, method)
    for rank in on_ranks(ranks, search, kind, method):
        assert rank.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(rank[name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


FLAGS = [*SMALL_SEARCH, "--space", "darts", "--supernet", "fast", "--epochs", "1"]


def search_by_entry(*flags: str) -> None:
    """Run the entry on this rank."""
    torch.set_num_threads(1)
    sys.argv = ["train_search", *FLAGS, *flags]
    run_entry(train_search.main, SearchConfig)


@pytest.mark.slow
def test_two_processes_of_the_entry_search_as_one_on_the_joined_batch(tmp_path):
    flags = ["--unrolled", "--sync_bn", "--replica_check", "1"]
    on_ranks(1, search_by_entry, *flags, "--save", f"{tmp_path}/1")
    on_ranks(2, search_by_entry, *flags, "--batch_size", "12", "--save", f"{tmp_path}/2")
    alone, joined = ([json.loads(line) for line in records(tmp_path / str(n), "metrics").splitlines()] for n in (1, 2))
    assert len(alone) == len(joined) == 3  # two steps, one epoch
    for expected, found in zip(alone, joined, strict=True):
        assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-4)
    for kind in ("alphas/normal", "alphas/reduce"):
        torch.testing.assert_close(torch.tensor(joined[-1][kind]), torch.tensor(alone[-1][kind]), rtol=2e-3, atol=1e-5)


def select_in_float64(*flags: str) -> None:
    """Search and select by perturbation on this rank, in float64: in float32 ranks drift from one process."""
    torch.set_num_threads(1)
    build, finish = train_search_command.build_search_supernet, BatchSource._finish
    train_search_command.build_search_supernet = lambda *args: build(*args).double()

    def in_float64(*args) -> Batch:
        batch = finish(*args)
        return batch._replace(images=batch.images.double())

    BatchSource._finish = in_float64  # pyright: ignore[reportAttributeAccessIssue]
    space = uniform_space(("skip_connect", "sep_conv_3x3"), num_nodes=2)  # s2 of two nodes
    train_search_command.main(parse_config(SearchConfig, [*SMALL_SEARCH, *flags]), space)


@pytest.mark.slow
def test_two_processes_decide_by_perturbation_as_one_does_on_the_joined_batch(tmp_path):
    flags = ["--selection", "perturbation", "--pt_epochs_between", "1", "--pt_batches", "1", "--epochs", "1"]
    flags += ["--sync_bn", "--init_channels", "2"]
    on_ranks(1, select_in_float64, *flags, "--batch_size", "70", "--save", f"{tmp_path}/1")
    on_ranks(2, select_in_float64, *flags, "--batch_size", "35", "--save", f"{tmp_path}/2")
    alone, joined = ([json.loads(line) for line in records(tmp_path / str(n), "metrics").splitlines()] for n in (1, 2))
    assert sum(line["event"] == "selection" for line in alone) == 2 * (5 + 1)
    for expected, found in zip(alone, joined, strict=True):
        for name, value in expected.items():
            if isinstance(value, str | int | None) or name == "edges":
                assert found[name] == value, (found, expected)
            else:
                torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(value), rtol=1e-7, atol=1e-9)
    assert records(tmp_path / "1", "genotypes") == records(tmp_path / "2", "genotypes")


def drifting_search(*flags: str) -> None:
    """Run the entry, in which one rank's alphas move by themselves."""
    step = Architect.step

    def drifting(self, *args):
        norm = step(self, *args)
        if os.environ["RANK"] == "1":
            self.supernet.alphas_reduce.data[3, 2] += 1e-6
        return norm

    Architect.step = drifting  # pyright: ignore[reportAttributeAccessIssue]
    search_by_entry(*flags)


def test_a_rank_whose_alphas_drift_is_caught_with_one_clear_line(tmp_path, capfd):
    flags = ["--batch_size", "12", "--replica_check", "2", "--save", f"{tmp_path}/run"]
    on_ranks(2, drifting_search, *flags, status=2)
    said = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(said) == 1 and "drifted apart: rank 1 of 2 differs from the others in alphas_reduce" in said[0], said
    assert not (tmp_path / "run" / "result.json").exists()
