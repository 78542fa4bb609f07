"""Whether a cell looks collapsed depends on how rare it is among the random cells of its own space."""

from dataclasses import replace

import pytest

from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.search.collapse import PARAMETER_FREE, _chance_of_at_least, collapse_line, presets_to_try
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.random_cells import random_genotype
from darts_hpc.space.spaces import SPACES


def cell_of(operation: str, count: int, other: str = "sep_conv_3x3") -> Genotype:
    cell = random_genotype(0)
    names = [operation] * count + [other] * (8 - count)
    return replace(cell, normal=tuple((name, state) for name, (_, state) in zip(names, cell.normal, strict=True)))


@pytest.mark.parametrize(
    ("space", "operation", "fewest"),
    [
        ("darts", "skip_connect", 5),
        ("darts", "max_pool_3x3", 7),
        ("darts_no_none", "skip_connect", 5),
        ("s2", "skip_connect", 8),  # 7 of 8 are in 9 random cells of 256
        ("s3", "skip_connect", 8),
        ("s4", "noise", 8),
    ],
)
def test_a_cell_looks_collapsed_from_what_random_cells_of_its_space_almost_never_have(space, operation, fewest):
    lines = [collapse_line(cell_of(operation, count), SPACES[space], ["darts_pt"]) for count in range(9)]
    assert [line.startswith("the cell looks collapsed") for line in lines] == [count >= fewest for count in range(9)]
    assert lines[8].endswith("; try --config configs/search/darts_pt.yaml")
    assert "of random cells 100 % have as many skip connections, 100 % as many without" in lines[0]


@pytest.mark.parametrize("space", ["darts", "s1"])
def test_the_shares_are_those_of_cells_drawn_at_random(space):
    cells = [random_genotype(seed, SPACES[space]) for seed in range(2000)]
    for operations, counts in (
        (["skip_connect"], [cell.num_skip_connects for cell in cells]),
        (PARAMETER_FREE, [cell.num_parameter_free for cell in cells]),
    ):
        for count in range(9):
            drawn = sum(found >= count for found in counts) / len(cells)
            expected = _chance_of_at_least(count, SPACES[space].normal, operations)
            assert drawn == pytest.approx(expected, abs=0.05)  # 4 standard deviations


def test_a_preset_that_the_search_has_used_is_not_the_one_to_try():
    assert presets_to_try(parse_config(SearchConfig, [])) == ["robust", "darts_pt"]
    flags = ["--auxiliary_skip", "linear", "--selection", "perturbation", "--partial_channels", "4"]
    assert presets_to_try(parse_config(SearchConfig, flags)) == ["sdarts_rs", "beta_darts"]
