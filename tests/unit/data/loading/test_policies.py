"""TrivialAugment and AutoAugment do what torchvision's transforms of these names do, and draw as often."""

from collections import Counter, defaultdict
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from darts_hpc import counter_rng
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.loading.policies import Policy, policy_of
from darts_hpc.data.loading.policy_operations import OPERATIONS
from darts_hpc.data.loading.policy_tables import CIFAR10, NAMES, SVHN, WIDE, auto_magnitudes, wide_magnitudes
from darts_hpc.data.sets.image_set import DataSet, ImageSet

Outcome = tuple[tuple[str, float], ...]
"""Operations in a row, and their magnitudes."""
TRIVIAL: Any = v2.TrivialAugmentWide()
AUTO = {"cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10), "svhn": v2.AutoAugment(v2.AutoAugmentPolicy.SVHN)}
SPACES = {
    # ours, torchvision's, its number of bins
    "trivial": (wide_magnitudes, TRIVIAL._AUGMENTATION_SPACE, 31),
    "auto": (auto_magnitudes, v2.AutoAugment._AUGMENTATION_SPACE, 10),
}


def photographs(count: int, side: int, grey: bool = False) -> Tensor:
    """Return smooth images with noise (N, 3, H, W) uint8, of all kinds of histograms: some dark, some of one colour."""
    generator = torch.Generator().manual_seed(side)
    coarse = torch.rand(count, 1 if grey else 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, side, mode="bicubic") * 255
    images = images * torch.rand(count, 1, 1, 1, generator=generator)
    images = (images + 8 * torch.randn(images.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    images[0] = 77
    return images.expand(count, 3, side, side).contiguous(memory_format=torch.channels_last)


def torchvisions(image: Tensor, operation: str, magnitude: float) -> Tensor:
    return TRIVIAL._apply_image_or_video_transform(image, operation, magnitude, "nearest", TRIVIAL._fill)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("side", [32, 40])
def test_magnitudes_are_torchvisions_to_the_last_bit(name, side):
    ours, theirs, num_bins = SPACES[name]
    expected = {key: (get(num_bins, side, side), signed) for key, (get, signed) in theirs.items()}
    assert ours(side) == {
        key: (values.tolist(), sign) for key, (values, sign) in expected.items() if values is not None
    }


def test_trivial_augment_shifts_a_small_image_by_no_more_than_its_side():
    assert wide_magnitudes(8)["TranslateX"].values[-1] == 8


def test_choices_are_torchvisions():
    assert {(step.operation, step.chance, step.bin) for (step,) in WIDE} == {
        (name, 1.0, None) for name in TRIVIAL._AUGMENTATION_SPACE
    }
    for table, theirs in ((CIFAR10, AUTO["cifar10"]), (SVHN, AUTO["svhn"])):
        assert [[tuple(step) for step in steps] for steps in table] == [list(pair) for pair in theirs._policies]


def test_every_operation_has_its_name_and_the_first_changes_nothing():
    assert set(OPERATIONS) == set(NAMES) and NAMES[0] == "Identity"


@pytest.mark.parametrize(("side", "grey"), [(32, False), (9, True)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_on_a_group_is_torchvisions_transform_of_each_image_bit_for_bit(operation, side, grey):
    images, has = photographs(6, side, grey), wide_magnitudes(side) | {"Identity": ((0.0,), False)}
    values, signed = has.get(operation, ((0.0,), False))
    for magnitude in (values[0], values[len(values) // 3], values[-1]):
        for sign in (1, -1) if signed else (1,):
            changed = OPERATIONS[operation](images.contiguous(), sign * magnitude)
            for image, own in zip(images, changed, strict=True):
                assert torch.equal(own, torchvisions(image, operation, sign * magnitude))


def drawn(policy: Policy, count: int, side: int = 32) -> list[Outcome]:
    """Return for each of many keys what is done to its image."""
    done: list[list[tuple[str, float]]] = [[] for _ in range(count)]
    keys = counter_rng.random_bits(3, torch.arange(count))
    for slot in range(len(policy.choices[0])):
        for operation, magnitude, members in policy.draw(keys, slot, side):
            for member in members.tolist():
                done[member].append((operation, magnitude))
    return [tuple(each) for each in done]


def enumerated(policy: str) -> dict[Outcome, float]:
    """Return the chance of everything that torchvision's transform may do to an image, from its own tables."""
    if policy == "trivial":
        choices = [((name, 1.0, None),) for name in TRIVIAL._AUGMENTATION_SPACE]
    else:
        choices = AUTO["cifar10"]._policies
    _, space, num_bins = SPACES[policy]
    chances: defaultdict[Outcome, float] = defaultdict(float)
    for steps in choices:
        outcomes: dict[Outcome, float] = {(): 1.0}
        for name, chance, at in steps:
            values, signed = space[name][0](num_bins, 32, 32), space[name][1]
            magnitudes = [0.0] if values is None else values.tolist() if at is None else [float(values[at])]
            each = [sign * value for value in magnitudes for sign in ((1, -1) if signed else (1,))]
            step: defaultdict[Outcome, float] = defaultdict(float, {(): 1 - chance})
            for magnitude in each:
                step[() if name == "Identity" else ((name, magnitude),)] += chance / len(each)
            then: defaultdict[Outcome, float] = defaultdict(float)
            for before, p in outcomes.items():
                for own, q in step.items():
                    then[before + own] += p * q
            outcomes = then
        for outcome, chance in outcomes.items():
            chances[outcome] += chance / len(choices)
    return {outcome: chance for outcome, chance in chances.items() if chance}


@pytest.mark.parametrize("policy", ["trivial", "auto"])
def test_what_is_done_is_distributed_as_torchvisions_tables_say(policy):
    ours, expected, count = policy_of(policy, "cifar10"), enumerated(policy), 30_000
    assert ours is not None
    found = Counter(drawn(ours, count))
    assert set(found) <= set(expected) and sum(expected.values()) == pytest.approx(1)
    likely = [outcome for outcome, chance in expected.items() if chance * count >= 5]
    rest = 1 - sum(expected[outcome] for outcome in likely)
    counts = [found[outcome] for outcome in likely] + [count - sum(found[outcome] for outcome in likely)]
    chances = [expected[outcome] for outcome in likely] + [rest]
    if rest < 1e-9:
        assert counts.pop() == 0 and chances.pop() is not None
    assert stats.chisquare(counts, [chance * count for chance in chances]).pvalue > 1e-3


def source(policy: str, rank: int = 0, world_size: int = 1, cutout_length: int = 0, padding: int = 0) -> BatchSource:
    images = photographs(40, 16)
    part = ImageSet(images, torch.arange(40))
    classes, thirds = tuple(map(str, range(40))), {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    data = DataSet(name="x", classes=classes, train=part, test=part, crop_padding=padding, flip=False, **thirds)
    return BatchSource(
        data, part, batch_size=12 // world_size, seed=5, device=torch.device("cpu"), shuffle=True, drop_last=True,
        augmentation=Augmentation(padding, False, cutout_length, policy_of(policy, "x")), rank=rank,
        world_size=world_size,
    )  # fmt: skip


def pixels(images: Tensor) -> Tensor:
    return (images * 0.25 + 0.5) * 255


@pytest.mark.parametrize("policy", ["trivial", "auto"])
def test_a_batch_is_torchvisions_transforms_by_draws_of_seed_epoch_and_sample_alone(policy):
    ours, images = policy_of(policy, "x"), photographs(40, 16)
    assert ours is not None
    whole, epochs = source(policy), []
    for epoch in (3, 4, 3):
        batches = [whole.batch(epoch, step) for step in range(3)]
        for images_of_step, ids, _ in batches:
            for shown, number in zip(images_of_step, ids.tolist(), strict=True):
                key, expected = counter_rng.random_bits(5, epoch, torch.tensor([number]), 1), images[number]
                for slot in range(len(ours.choices[0])):
                    for operation, magnitude, _members in ours.draw(key, slot, 16):
                        expected = torchvisions(expected, operation, magnitude)
                torch.testing.assert_close(pixels(shown), expected.float(), rtol=0, atol=1e-3)
        epochs.append(torch.cat([batch.images for batch in batches]))
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])
    for step in range(3):  # as two processes have it, one of which begins in the middle of the epoch
        joined = [source(policy, rank, 2).batch(3, step).images for rank in range(2)]
        assert torch.equal(torch.cat(joined), whole.batch(3, step).images)


def test_crop_comes_after_the_policy_and_cutout_last():
    plain, cut = source("auto", padding=3), source("auto", padding=3, cutout_length=6)
    changed, images = source("auto"), []
    for step in range(3):
        uncropped, whole, holed = (each.batch(0, step) for each in (changed, plain, cut))
        draws = plain.augmentation.draw(counter_rng.random_bits(5, 0, whole.labels, 1), 16, 16)  # pyright: ignore[reportOptionalMemberAccess]
        moved = Augmentation(3, False).move(pixels(uncropped.images), torch.arange(12), draws)
        torch.testing.assert_close(pixels(whole.images), moved, rtol=0, atol=1e-3)
        hole = (holed.images == 0) & (whole.images != holed.images)
        assert torch.equal(torch.where(hole, whole.images, holed.images), whole.images)
        images.append(hole.any(1).flatten(1).sum(1))
    assert torch.cat(images).max() == 36
