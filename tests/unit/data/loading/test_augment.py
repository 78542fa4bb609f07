"""Crop, flip and cutout have the distribution of torchvision and of the original, by enumeration and chi-square."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as TF

from darts_hpc import counter_rng
from darts_hpc.data.loading.augment import Augmentation

SIZE, PADDING = 12, 4


def position_image(size: int = SIZE) -> Tensor:
    """(3, H, W) uint8 whose pixels name their row and column, so that a crop shows where it was taken."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([rows + 1, columns + 1, rows + columns + 1]).to(torch.uint8)


def augmented(augmentation: Augmentation, images: Tensor, keys: Tensor) -> Tensor:
    draws = augmentation.draw(keys, *images.shape[-2:])
    return augmentation.cut_out(augmentation.move(images, torch.arange(len(images)), draws), draws)


def torchvision_outcomes(image: Tensor, flips: tuple[bool, ...]) -> list[bytes]:
    """Every image that RandomCrop(SIZE, padding=PADDING) and RandomHorizontalFlip can return, equally likely."""
    padded, outcomes = TF.pad(image, [PADDING]), []
    for top in range(2 * PADDING + 1):
        for left in range(2 * PADDING + 1):
            crop = TF.crop(padded, top, left, SIZE, SIZE)
            outcomes += [(TF.hflip(crop) if flip else crop).numpy().tobytes() for flip in flips]
    return outcomes


def occurrences(images: Tensor, outcomes: list[bytes]) -> list[int]:
    found = Counter(image.contiguous().numpy().tobytes() for image in images)
    assert set(found) <= set(outcomes)
    return [found[outcome] for outcome in outcomes]


def homogeneity(table: np.ndarray) -> float:
    """p-value of the chi-square test that the rows of counts come from one distribution."""
    result: Any = stats.chi2_contingency(table)
    return result.pvalue


@pytest.mark.parametrize("flip", [True, False])
def test_crop_and_flip_are_uniform_over_torchvisions_outcomes(flip: bool):
    image = position_image()
    outcomes = torchvision_outcomes(image, (False, True) if flip else (False,))
    assert len(set(outcomes)) == 81 * (1 + flip)
    count = 100 * len(outcomes)
    moved = augmented(Augmentation(PADDING, flip), image.expand(count, -1, -1, -1), torch.arange(count))
    assert moved.dtype == torch.uint8 and moved.is_contiguous(memory_format=torch.channels_last)
    assert stats.chisquare(occurrences(moved, outcomes)).pvalue > 1e-3


def test_crop_and_flip_are_distributed_as_torchvisions_own_draws():
    torch.manual_seed(0)
    image = position_image()
    transform = transforms.Compose([transforms.RandomCrop(SIZE, padding=PADDING), transforms.RandomHorizontalFlip()])
    theirs = torch.stack([transform(image) for _ in range(3240)])
    ours = augmented(Augmentation(PADDING, flip=True), image.expand(16_200, -1, -1, -1), torch.arange(16_200))
    outcomes = torchvision_outcomes(image, (False, True))
    table = np.array([occurrences(theirs, outcomes), occurrences(ours, outcomes)])
    assert homogeneity(table) > 1e-3
    spread = theirs.double().std(0) * (1 / 3240 + 1 / 16_200) ** 0.5
    assert ((theirs.double().mean(0) - ours.double().mean(0)).abs() <= 5 * spread + 1e-12).all()


def test_each_image_of_a_batch_is_moved_as_it_would_be_alone():
    images = torch.randint(0, 256, (16, 3, SIZE, SIZE), dtype=torch.uint8)
    keys = counter_rng.random_bits(1, torch.arange(16))
    augmentation = Augmentation(PADDING, flip=True, cutout_length=6)
    together = augmented(augmentation, images, keys)
    for i in range(16):
        alone = augmented(augmentation, images[i : i + 1], keys[i : i + 1])
        assert torch.equal(together[i], alone[0])


def test_no_padding_and_no_flip_leave_the_images():
    images = torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8)
    assert torch.equal(augmented(Augmentation(0, flip=False), images, torch.arange(8)), images)


def original_cutout_mask(size: int, length: int, y: int, x: int) -> np.ndarray:
    """What utils.Cutout of the original implementation multiplies an image by."""
    mask = np.ones((size, size), np.uint8)
    y1, y2 = np.clip(y - length // 2, 0, size), np.clip(y + length // 2, 0, size)
    x1, x2 = np.clip(x - length // 2, 0, size), np.clip(x + length // 2, 0, size)
    mask[y1:y2, x1:x2] = 0
    return mask


@pytest.mark.parametrize(("size", "length"), [(8, 4), (8, 5), (32, 16)])
def test_cutout_is_uniform_over_the_originals_masks(size: int, length: int):
    masks = [original_cutout_mask(size, length, y, x) for y in range(size) for x in range(size)]
    outcomes = [mask.tobytes() for mask in masks]
    assert len(set(outcomes)) == size**2
    count = 20 * size**2
    ones = torch.ones(count, 1, size, size, dtype=torch.uint8)
    cut = augmented(Augmentation(0, flip=False, cutout_length=length), ones, torch.arange(count))
    assert stats.chisquare(occurrences(cut, outcomes)).pvalue > 1e-3
    probability = np.mean(masks, axis=0)  # of each pixel to stay
    deviation = np.abs(cut[:, 0].double().mean(0).numpy() - probability)
    assert (deviation <= 5 * np.sqrt(probability * (1 - probability) / count) + 1e-12).all()


def test_row_column_flip_and_cutout_are_drawn_independently():
    keys = torch.arange(40_000)
    images = position_image(4)[None].expand(len(keys), -1, -1, -1)
    moved = augmented(Augmentation(1, flip=True), images, keys)
    whole = {image.numpy().tobytes(): i for i, image in enumerate(moved.unique(dim=0))}
    augmentation = Augmentation(1, flip=True, cutout_length=2)
    draws = augmentation.draw(keys, 4, 4)
    cut = augmentation.cut_out(torch.ones(len(keys), 1, 4, 4, dtype=torch.uint8), draws)
    holes = {image.numpy().tobytes(): i for i, image in enumerate(cut.unique(dim=0))}
    assert (len(whole), len(holes)) == (18, 16)
    table = np.zeros((18, 16), int)
    for image, hole in zip(moved, cut, strict=True):
        table[whole[image.contiguous().numpy().tobytes()], holes[hole.contiguous().numpy().tobytes()]] += 1
    assert homogeneity(table) > 1e-3
