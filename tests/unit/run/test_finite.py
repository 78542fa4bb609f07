"""Tensors and numbers that are not finite are found by name, and the first bad step by number."""

import pytest
import torch
from ranks import on_ranks

from darts_hpc.distributed.world import World
from darts_hpc.run.finite import FirstBadStep, first_not_finite, first_number_not_finite

CPU = torch.device("cpu")
GOOD, BAD = torch.tensor(True), torch.tensor(False)


def test_the_first_bad_step_is_kept_however_many_follow():
    first = FirstBadStep(CPU)
    for step, is_good in ((1, GOOD), (2, GOOD)):
        first.add(step, is_good)
    assert first.read(World(CPU)) is None
    for step, is_good in ((3, BAD), (4, GOOD), (5, BAD)):
        first.add(step, is_good)
    assert first.read(World(CPU)) == 3


def test_every_rank_learns_of_a_step_that_was_bad_on_one():
    def on_rank() -> int | None:
        with World.open("cpu") as world:
            first = FirstBadStep(CPU)
            first.add(1, GOOD)
            first.add(2, BAD if world.rank == 1 else GOOD)
            return first.read(world)

    assert on_ranks(2, on_rank) == [2, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_tensor_that_is_not_finite_is_found_by_name_in_nested_states(bad):
    state = {"network": {"w": torch.ones(3)}, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2, 2)}}}}
    assert first_not_finite(state) is None and first_not_finite({"lr": 0.1}) is None
    state["optimizer"]["state"][0]["momentum_buffer"][1, 0] = bad
    assert first_not_finite(state) == "optimizer.state.0.momentum_buffer"


def test_a_number_that_is_not_finite_is_found_by_name_in_tables_too():
    assert first_number_not_finite({"loss": 1.0, "alphas": [[0.5, 0.5]], "skips": 3, "name": "nan"}) is None
    assert first_number_not_finite({"loss": 1.0, "alphas": [[0.5, float("nan")]]}) == "alphas"
