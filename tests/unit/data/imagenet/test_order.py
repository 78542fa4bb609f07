"""Ordered (sample id, pixels) are the same for any number of processes and threads, and after any restart."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from small_imagenet import NUM_VALID, joined, open_loader, signature

from darts_hpc.data.imagenet.list.manifest import Manifest

KINDS = ("dali", "torchvision")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def alone(tree: Path, manifest: Manifest, kind: str) -> list:
    """Two epochs, three steps each, of one process."""
    loader = open_loader(tree, manifest, kind=kind)
    return [step for epoch in range(2) for step in signature(loader.batches(epoch))]


@pytest.mark.parametrize(
    ("kind", "world_size"), [("dali", 2), ("dali", 4), ("dali", 8), ("torchvision", 2)], indirect=["kind"]
)
def test_every_number_of_processes_sees_the_same(tree, manifest, kind, alone, world_size: int):
    ranks = [
        open_loader(tree, manifest, kind=kind, batch_size=8 // world_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert [step for epoch in range(2) for step in signature(joined(ranks, epoch))] == alone


def test_threads_and_batches_prepared_ahead_change_nothing(tree, manifest, kind, alone):
    for threads, prefetch in ((2, 1), (1, 5)):
        loader = open_loader(tree, manifest, kind=kind, threads=threads, prefetch=prefetch)
        assert [step for epoch in range(2) for step in signature(loader.batches(epoch))] == alone


def test_an_epoch_entered_at_any_step_goes_on_the_same(tree, manifest, kind, alone):
    loader = open_loader(tree, manifest, kind=kind)
    for position in range(6):
        if kind == "dali":  # a new process, after a restart, has a new pipeline
            loader = open_loader(tree, manifest, kind=kind)
        epoch, first_step = divmod(position, 3)
        assert signature(loader.batches(epoch, first_step)) == alone[position : 3 * (epoch + 1)]


def test_an_epoch_left_in_the_middle_leaves_nothing_behind(tree, manifest, kind, alone):
    loader = open_loader(tree, manifest, kind=kind)
    next(loader.batches(0))
    assert signature(loader.batches(1)) == alone[3:]
    assert signature(loader.batches(0, 3)) == []


def test_epochs_share_a_pipeline_though_nobody_asks_beyond_the_last_batch(tree, manifest):
    loader: Any = open_loader(tree, manifest)
    builds = []
    build = loader._build
    loader._build = lambda *arguments: builds.append(1) or build(*arguments)
    for epoch in range(4):
        seen = signature(itertools.islice(loader.batches(epoch), loader.steps_per_epoch))
        assert seen == signature(open_loader(tree, manifest).batches(epoch))
    assert len(builds) == 1


def test_epochs_differ_and_each_image_comes_at_most_once(alone):
    first, second = ([image for step in part for image in step] for part in (alone[:3], alone[3:]))
    assert len({key for key, _, _ in first}) == len({pixels for _, _, pixels in first}) == 24
    assert not {pixels for _, _, pixels in first} & {pixels for _, _, pixels in second}


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 5), (2, 4), (3, 5), (4, 16)])
def test_validation_counts_each_image_once_for_any_number_of_processes(
    tree, manifest, kind, world_size: int, batch_size: int
):
    ranks = [
        open_loader(tree, manifest, "val", kind=kind, batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    expected = signature(open_loader(tree, manifest, "val", kind=kind, batch_size=NUM_VALID).batches(0))
    seen = [image for step in signature(joined(ranks, 0)) for image in step]
    assert seen == expected[0] and len(seen) == NUM_VALID
    assert Counter(label for _, label, _ in seen) == Counter(manifest.val.labels.tolist())


def test_batches_are_normalised_float_images_in_channels_last(tree, manifest, kind):
    for batch in open_loader(tree, manifest, kind=kind).batches(0):
        assert batch.images.shape == (8, 3, 32, 32) and batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == batch.keys.dtype == torch.int64
        assert -2.2 < batch.images.min() < 0 < batch.images.max() < 2.7
