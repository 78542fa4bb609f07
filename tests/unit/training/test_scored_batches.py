"""Which validation batches a selection by perturbation is scored on, and that ranks score as one process does."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import on_ranks

from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.selection import Score
from darts_hpc.space.spaces import uniform_space
from darts_hpc.training.loops import score_batches
from darts_hpc.training.search_run import Search

SPACE = uniform_space(("noise", "sep_conv_3x3"), num_nodes=1)  # noise is drawn by the images' keys
JOINED = 8
SIZES = (16, 17, 18, 19, 20, 21, 23)


def scored(num_images: int, batch_size: int, world: World, asked: int | None = None) -> list[Batch]:
    """Return the scored batches of a rank."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(num_images, 3, 4, 4, generator=draw, dtype=torch.float64)
    labels, keys = torch.randint(5, (num_images,), generator=draw), torch.randint(2**60, (num_images,), generator=draw)
    ids = torch.arange(num_images)
    order = SampleOrder(ids, batch_size=batch_size, seed=0, rank=world.rank, world_size=world.size)
    taken = [order.ids(0, step) for step in range(order.steps_per_epoch)]
    valid = SimpleNamespace(
        num_samples=num_images,
        steps_per_epoch=len(taken),
        batches=lambda epoch: (Batch(images[own], labels[own], keys[own]) for own in taken),
    )
    search: Any = SimpleNamespace(
        data=SimpleNamespace(valid=valid),
        cfg=SimpleNamespace(selection=SimpleNamespace(pt_batches=asked)),
        world=world,
        run=SimpleNamespace(stop_if_asked=lambda: None),
    )
    return list(Search._scored_batches(search))


@pytest.mark.parametrize(
    ("num_images", "asked", "expected"),
    [
        (74, None, [36, 36, 2]),
        (73, None, [36, 37]),  # BatchNorm can't do with a single image
        (73, 2, [36, 36]),
        (74, 2, [36, 36]),
        (74, 9, [36, 36, 2]),
        (1, None, [1]),
    ],
)
def test_one_process_scores_all_images_of_the_batches_asked_for(num_images, asked, expected):
    found = scored(num_images, 36, World(torch.device("cpu")), asked)
    assert [len(batch.labels) for batch in found] == expected
    labels = torch.cat([batch.labels for batch in scored(num_images, 999, World(torch.device("cpu")))])
    assert torch.equal(torch.cat([batch.labels for batch in found]), labels[: sum(expected)])


def scores() -> dict[bool, list[tuple[Score, list[tuple[int, int]]]]]:
    """Return, with statistics of each rank or joined ones, the score of each number of images, and of each batch how
    many images it has and how many of them count."""
    torch.set_num_threads(1)
    found: dict[bool, list[tuple[Score, list[tuple[int, int]]]]] = {False: [], True: []}
    with World.open("cpu") as world:
        for joined in found:
            torch.manual_seed(0)
            supernet: Any = SuperNet(2, 3, 5, space=SPACE).double()
            if joined:
                synchronise_batch_norm(supernet, world)
            for num_images in SIZES:
                batches = scored(num_images, JOINED // world.size, world)
                score = score_batches(supernet, batches, supernet.softmax_mixing(), world)
                found[joined].append((score, [(len(batch.images), len(batch.labels)) for batch in batches]))
    return found


def test_ranks_score_all_images_and_with_joined_statistics_as_one_process_does():
    (alone,), ranks = on_ranks(1, scores), on_ranks(2, scores)
    for number, (num_images, (score, _)) in enumerate(zip(SIZES, alone[True], strict=True)):
        for rank in ranks:
            found = rank[True][number][0]
            assert found.accuracy == score.accuracy and found.loss == pytest.approx(score.loss, rel=1e-9)
        assert ranks[0][False][number][0] == ranks[1][False][number][0]
        for joined in (False, True):
            batches = [sizes for rank in ranks for sizes in rank[joined][number][1]]
            assert sum(labels for _, labels in batches) == num_images and min(images for images, _ in batches) > 1
