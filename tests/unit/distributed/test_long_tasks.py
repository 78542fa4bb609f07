"""Ranks wait for each other's work beyond what a collective waits, and all learn of a failure."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lasting_work import lasting_work
from ranks import on_ranks

from darts_hpc.distributed import long_tasks as waiting
from darts_hpc.distributed.world import World


def after_work(folder: Path, lasts_on: int | None = None, fails_on: int | None = None) -> tuple[str, list[str]]:
    """Work on each rank, on one of them for long; return what it says, and who was done."""
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    wait = lasting_work()

    def work() -> None:
        if rank == lasts_on:
            wait()
        if rank == fails_on:
            raise ValueError(f"rank {rank} has no data")
        (folder / str(rank)).touch()

    said = ""
    try:
        waiting.run_on_all(World(torch.device("cpu"), rank=rank, size=2), work)
    except ValueError as error:
        said = str(error)
    done = sorted(path.name for path in folder.iterdir())
    dist.barrier()
    dist.destroy_process_group()
    return said, done


@pytest.mark.parametrize("rank", [0, 1])
def test_any_rank_may_work_for_longer_than_a_collective_waits(rank: int, tmp_path):
    assert on_ranks(2, after_work, tmp_path, rank) == [("", ["0", "1"])] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_every_rank_learns_of_a_failure_on_one(failing: int, tmp_path):
    answers = on_ranks(2, after_work, tmp_path, 1, failing)
    assert {said for said, _ in answers} == {f"rank {failing} has no data"}
