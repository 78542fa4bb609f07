"""Which validation batches a selection by perturbation is scored on."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.training.search_run import Search


def scored(num_images: int, batch_size: int, ranks: int, rank: int, asked: int | None) -> list[int]:
    """Return how many images of each scored batch a rank has."""
    order = SampleOrder(torch.arange(num_images), batch_size=batch_size, seed=0, rank=rank, world_size=ranks)
    batches = [(order.ids(0, step), order.ids(0, step), None) for step in range(order.steps_per_epoch)]
    search: Any = SimpleNamespace(
        data=SimpleNamespace(valid=SimpleNamespace(num_samples=num_images, batches=lambda epoch: iter(batches))),
        cfg=SimpleNamespace(data=SimpleNamespace(batch_size=batch_size), selection=SimpleNamespace(pt_batches=asked)),
        world=SimpleNamespace(size=ranks),
        run=SimpleNamespace(stop_if_asked=lambda: None),
    )
    return [len(batch[1]) for batch in Search._scored_batches(search)]


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected", "asked"),
    [
        (73, 36, [[36, 36]], None),  # BatchNorm can't do with the last one's single image
        (74, 36, [[36, 36, 2]], None),
        (74, 36, [[36, 36]], 2),
        (74, 36, [[36, 36, 2]], 9),
        (73, 14, [[14, 14, 14], [14, 14, 3]], None),  # all that one process is scored on
        (73, 16, [[16, 16], [16, 16]], None),  # the second has none of the last 9
    ],
)
def test_all_images_are_scored_but_for_a_last_batch_that_does_not_go_round(num_images, batch_size, expected, asked):
    ranks = len(expected)
    assert [scored(num_images, batch_size, ranks, rank, asked) for rank in range(ranks)] == expected
