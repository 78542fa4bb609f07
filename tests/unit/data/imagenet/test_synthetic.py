"""Synthetic images: a pure function of (seed, epoch, id), the same for any number of ranks, and learnable."""

import dataclasses
import itertools

import pytest
import torch

from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.data.imagenet.load import open_imagenet
from darts_hpc.data.loading.batches import Loader
from darts_hpc.distributed.world import World

CFG = ImageNetDataConfig(loader="synthetic", batch_size=8, image_size=32, synthetic_images=75, synthetic_classes=3)


def world(rank: int = 0, size: int = 1) -> World:
    return World(torch.device("cpu"), rank, size)


def whole(loaders: list[Loader], epoch: int, first_step: int = 0) -> list[list[torch.Tensor]]:
    """Global batches: the ranks' images, labels and keys joined, step by step."""
    ranks = [list(loader.batches(epoch, first_step)) for loader in loaders]
    return [[torch.cat(parts) for parts in zip(*step, strict=True)] for step in zip(*ranks, strict=True)]


def assert_equal(a: list[list[torch.Tensor]], b: list[list[torch.Tensor]]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_global_batches_do_not_depend_on_the_number_of_ranks(size: int):
    single = open_imagenet(CFG, 3, world())
    split = dataclasses.replace(CFG, batch_size=8 // size)
    ranks = [open_imagenet(split, 3, world(rank, size)) for rank in range(size)]
    for part, epoch in itertools.product(("train", "valid"), (0, 1)):
        loaders = [getattr(rank, part) for rank in ranks]
        assert_equal(whole(loaders, epoch), whole([getattr(single, part)], epoch))


def test_an_epoch_can_be_entered_at_any_step():
    train = open_imagenet(CFG, 3, world()).train
    assert train.steps_per_epoch == 9 and train.num_samples == 75
    for first_step in range(10):
        assert_equal(whole([train], 1, first_step), whole([train], 1)[first_step:])


def test_epochs_and_seeds_differ():
    images = [
        next(open_imagenet(CFG, seed, world()).train.batches(epoch)).images for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))
    assert images[0].shape == (8, 3, 32, 32) and images[0].is_contiguous(memory_format=torch.channels_last)


def test_images_of_a_class_are_nearer_to_each_other_than_to_another_class():
    train = open_imagenet(CFG, 0, world()).train
    images, labels, _ = whole([train], 0)[0]
    distances = torch.cdist(images.flatten(1), images.flatten(1))
    same = labels[:, None] == labels
    other = distances[~same].mean()
    assert distances[same & ~torch.eye(8, dtype=torch.bool)].mean() < other


def test_too_few_images_for_a_global_batch_are_refused():
    with pytest.raises(ValueError, match=r"--batch_size 8 on 16 processes .*only 75 are there; lower --batch_size"):
        open_imagenet(CFG, 0, world(0, 16))


def test_more_processes_than_images_are_told_to_be_fewer():
    one = dataclasses.replace(CFG, batch_size=1)
    assert open_imagenet(one, 0, world(0, 75)).train.steps_per_epoch == 1
    with pytest.raises(ValueError, match=r"--batch_size 1 on 76 processes .*only 75 are there; start fewer processes"):
        open_imagenet(one, 0, world(0, 76))
