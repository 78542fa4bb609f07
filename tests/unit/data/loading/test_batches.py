"""Batches are a pure function of (seed, epoch, step), the same images for any number of ranks."""

import itertools
from collections import Counter

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms
from torchvision.transforms import functional as TF

from darts_hpc import counter_rng
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import Batch, BatchSource, Cycle
from darts_hpc.data.loading.order import IMAGE
from darts_hpc.data.sets.image_set import DataSet, ImageSet

CPU = torch.device("cpu")
FULL = Augmentation(crop_padding=2, flip=True, cutout_length=4)


def data_set(count: int = 22, mean: float = 0.25, std: float = 0.5) -> DataSet:
    """Random 8x8 images; the label of an image is its id."""
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    part = ImageSet(pixels, torch.arange(count))
    classes = tuple(map(str, range(count)))
    statistics = {"mean": (mean, 0.4, 0.3), "std": (std, 0.2, 0.3)}
    return DataSet(name="ids", classes=classes, train=part, test=part, crop_padding=2, flip=True, **statistics)


def source(data: DataSet, batch_size: int = 8, rank: int = 0, world_size: int = 1, **options) -> BatchSource:
    defaults = {"seed": 3, "device": CPU, "shuffle": True, "augmentation": FULL}
    return BatchSource(
        data, data.train, batch_size=batch_size, rank=rank, world_size=world_size, **(defaults | options)
    )


def assert_equal(a: Batch, b: Batch) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def epoch_ids(of: BatchSource, epoch: int) -> list[int]:
    return [i for step in range(of.steps_per_epoch) for i in of.batch(epoch, step).labels.tolist()]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_samples_and_augmentation_do_not_depend_on_the_number_of_ranks(world_size: int, drop_last: bool):
    data = data_set()
    single = source(data, drop_last=drop_last)
    ranks = [source(data, 8 // world_size, r, world_size, drop_last=drop_last) for r in range(world_size)]
    for epoch, step in itertools.product(range(2), range(single.steps_per_epoch)):
        parts = [rank.batch(epoch, step) for rank in ranks]
        images, labels, keys = map(torch.cat, zip(*parts, strict=True))
        assert_equal(Batch(images, labels, keys), single.batch(epoch, step))


def test_batches_by_number_go_on_in_one_reading_of_each_epoch_and_are_found_again_after_a_jump(monkeypatch):
    loader, opened = source(data_set(), drop_last=True), []  # 2 steps an epoch
    batches = loader.batches
    monkeypatch.setattr(loader, "batches", lambda *at: opened.append(at) or batches(*at))
    cycle = Cycle(loader)
    for number in (3, 4, 5, 6, 6, 2):
        assert_equal(cycle.batch(number), loader.batch(number // 2, number % 2))
    assert opened == [(1, 1), (2, 0), (3, 0), (3, 0), (1, 0)]


def test_any_order_of_access_gives_the_same_batches():
    forward = source(data_set())
    positions = [(epoch, step) for epoch in range(3) for step in range(forward.steps_per_epoch)]
    expected = {position: forward.batch(*position) for position in positions}
    backward = source(data_set())
    for position in [*reversed(positions), *positions[::2]]:
        assert_equal(backward.batch(*position), expected[position])


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 8), (2, 4), (3, 4), (4, 2), (4, 16)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_image_comes_once_an_epoch_without_drop_last(world_size: int, batch_size: int, shuffle: bool):
    data = data_set(22)
    ranks = [source(data, batch_size, r, world_size, shuffle=shuffle) for r in range(world_size)]
    assert len({rank.steps_per_epoch for rank in ranks}) == 1  # collectives after each step stay in step
    for epoch in range(2):
        assert Counter(i for rank in ranks for i in epoch_ids(rank, epoch)) == Counter(range(22))


def test_a_rank_may_have_an_empty_last_batch_when_evaluating():
    batch = source(data_set(3), 16, rank=0, world_size=4, augmentation=None).batch(0, 0)
    assert batch.images.shape == (0, 3, 8, 8) and batch.labels.shape == batch.keys.shape == (0,)
    assert source(data_set(3), 16, rank=0, world_size=4).batch(0, 0).images.shape == (0, 3, 8, 8)


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 8), (2, 4), (3, 4), (4, 2)])
def test_drop_last_gives_every_rank_equal_batches_of_distinct_images(world_size: int, batch_size: int):
    ranks = [source(data_set(22), batch_size, r, world_size, drop_last=True) for r in range(world_size)]
    seen = [i for rank in ranks for i in epoch_ids(rank, 0)]
    assert len(seen) == len(set(seen)) == 22 // (batch_size * world_size) * batch_size * world_size
    assert {len(rank.batch(0, s).labels) for rank in ranks for s in range(rank.steps_per_epoch)} == {batch_size}


def test_too_few_images_for_one_global_batch_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"24 images per step.* only 22 .*lower --batch_size"):
        source(data_set(22), 12, world_size=2, drop_last=True)
    assert source(data_set(22), 11, world_size=2, drop_last=True).steps_per_epoch == 1


def test_order_is_a_uniform_permutation_of_the_epoch_and_the_seed():
    ids = torch.tensor([2, 5, 11, 20])
    data = data_set()
    orders = list(itertools.permutations(ids.tolist()))
    of = source(data, 4, sample_ids=ids, augmentation=None)
    found = Counter(tuple(epoch_ids(of, epoch)) for epoch in range(1200))
    assert stats.chisquare([found[order] for order in orders]).pvalue > 1e-3
    found = Counter(tuple(epoch_ids(source(data, 4, sample_ids=ids, seed=seed), 0)) for seed in range(480))
    assert stats.chisquare([found[order] for order in orders]).pvalue > 1e-3


def test_an_images_augmentation_depends_on_seed_epoch_and_id_alone():
    data = data_set()

    def by_id(epoch: int, **options) -> dict[int, Tensor]:
        of = source(data, **options)
        batches = [of.batch(epoch, step) for step in range(of.steps_per_epoch)]
        return {int(i): image for batch in batches for i, image in zip(batch.labels, batch.images, strict=True)}

    everything, some = by_id(4), by_id(4, batch_size=3, sample_ids=torch.tensor([20, 1, 7, 6]), shuffle=False)
    assert list(some) == [20, 1, 7, 6]  # unshuffled: in the order that was given
    assert all(torch.equal(image, everything[i]) for i, image in some.items())
    for other in (by_id(5), by_id(4, seed=4)):
        assert sum(torch.equal(image, everything[i]) for i, image in other.items()) < 5


def test_keys_are_distinct_for_images_and_epochs():
    of = source(data_set(), 22)
    keys = torch.cat([of.batch(epoch, 0).keys for epoch in range(10)])
    assert keys.dtype == torch.int64 and len(keys.unique()) == 220


def test_images_are_normalised_as_by_torchvision_in_channels_last():
    data = data_set()
    batch = source(data, shuffle=False, augmentation=None).batch(0, 1)
    expected = transforms.Normalize(data.mean, data.std)(data.train.images[8:16].float() / 255)
    torch.testing.assert_close(batch.images, expected, rtol=1e-6, atol=1e-6)
    assert batch.images.dtype == torch.float32 and batch.labels.dtype == torch.int64
    for augmentation in (None, FULL):
        images = source(data, augmentation=augmentation).batch(0, 0).images
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_padding_is_black_before_normalising_and_cutout_is_zero_after():
    white = data_set(200)
    white.train.images.fill_(255)
    images = source(white, 200).batch(0, 0).images
    for channel, (mean, std) in enumerate(zip(white.mean, white.std, strict=True)):
        expected = torch.tensor([-mean / std, 0.0, (1 - mean) / std])
        torch.testing.assert_close(images[:, channel].unique(), expected)


class CountOperations(TorchDispatchMode):
    """Count operations that compute something."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_view = any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns)
        self.count += not is_view
        return func(*args, **(kwargs or {}))


def test_a_batch_within_an_epoch_is_thirty_operations():
    of = source(data_set())
    of.batch(0, 0)
    with CountOperations() as counted:
        of.batch(0, 1)
    assert counted.count <= 30


def test_a_batch_is_what_its_images_keys_say():
    """By Python's own numbers and torchvision, image by image."""
    data, epoch = data_set(), 5
    batch = source(data).batch(epoch, 1)
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        key = int(counter_rng.random_bits(3, epoch, label, IMAGE))
        top, left = (int(counter_rng.uniform(key, stream) * 5) for stream in (0, 1))
        expected = TF.crop(TF.pad(data.train.images[label], [2]), top, left, 8, 8)
        if counter_rng.uniform(key, 2) >= 0.5:
            shown = TF.pad(data.train.images[label].flip(-1), [2])
            expected = TF.crop(shown, top, 4 - left, 8, 8)
        expected = transforms.Normalize(data.mean, data.std)(expected.float() / 255)
        row, column = (int(counter_rng.uniform(key, stream) * 8) for stream in (3, 4))
        expected[:, max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 0
        torch.testing.assert_close(image, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_batches():
    ours, theirs = source(data_set()).batch(1, 1), source(data_set(), device=torch.device("cuda")).batch(1, 1)
    torch.testing.assert_close(theirs.images.cpu(), ours.images, rtol=1e-6, atol=1e-6)
    assert torch.equal(theirs.labels.cpu(), ours.labels) and torch.equal(theirs.keys.cpu(), ours.keys)
