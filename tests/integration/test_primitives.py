"""A search among other operations than DARTS': derivation, records, checkpoints and a refusal go by their names."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_entries import TINY

from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.space.genotypes import Genotype, load_genotype, parse_genotype
from darts_hpc.space.spaces import uniform_space

OWN = ("dil_conv_5x5", "skip_connect", "max_pool_3x3")  # a subset, in another order, without 'none'
FLAGS = [*TINY, "--checkpoint_freq", "1"]


def search(folder: Path, primitives: tuple[str, ...] = OWN) -> Path:
    cfg = parse_config(SearchConfig, [*FLAGS, "--save", str(folder), "--resume", "auto"])
    return train_search.main(cfg, uniform_space(primitives))


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    return search(tmp_path_factory.mktemp("search") / "run")


def strongest(alpha: torch.Tensor) -> list[str]:
    """The strongest operation of each edge, by name."""
    return [OWN[column] for column in alpha.argmax(1)]


def cells(genotype: Genotype) -> list[tuple[str, int, int]]:
    """(operation, row of its edge in the alphas, cell) of every edge that was kept."""
    return [
        (operation, position // 2 * (position // 2 + 3) // 2 + state, index)
        for index, cell in enumerate((genotype.normal, genotype.reduce))
        for position, (operation, state) in enumerate(cell)
    ]


def test_the_cell_names_the_strongest_of_the_searched_operations(searched):
    alphas = torch.load(searched / "alphas.pt", weights_only=True)
    names = [strongest(alphas[name]) for name in ("alphas_normal", "alphas_reduce")]
    assert all(operation == names[cell][row] for operation, row, cell in cells(load_genotype(str(searched))))


def test_every_record_is_of_the_searched_operations(searched):
    lines = (searched / "genotypes.jsonl").read_text().splitlines()
    logged = [parse_genotype(json.loads(line)["genotype"]) for line in lines]
    assert len(logged) == 3 and {operation for cell in logged for operation, *_ in cells(cell)} <= set(OWN)
    epochs = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()]
    epochs = [numbers for numbers in epochs if "alphas/normal" in numbers]
    assert len(epochs) == 2
    for numbers, cell in zip(epochs, logged[1:], strict=True):
        assert torch.tensor(numbers["alphas/normal"]).shape == (14, len(OWN))
        assert numbers["skip_connects"] == cell.num_skip_connects
    assert logged[-1] == parse_genotype(json.loads((searched / "result.json").read_text())["genotype"])


def test_it_goes_on_from_its_checkpoint_but_not_among_operations_in_another_order(searched, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    shutil.rmtree(max((folder / "checkpoints").glob("step-*")))
    (folder / "result.json").unlink()
    with pytest.raises(ValueError, match=r"of another configuration \(space"):
        search(folder, OWN[::-1])
    search(folder)
    for name in ("alphas.pt", "weights.pt"):
        ours, theirs = (torch.load(run / name, weights_only=True) for run in (folder, searched))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
