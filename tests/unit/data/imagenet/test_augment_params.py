"""Crop boxes, flips and colour factors are torchvision's in distribution, and the boxes its algorithm step by step."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torchvision.transforms import CenterCrop, ColorJitter, RandomResizedCrop, Resize

from darts_hpc.data.imagenet.read.augment_params import ATTEMPTS, JITTER, RATIO, SCALE, centre, crop_boxes, draw

SHAPES = ((500, 375), (375, 500), (64, 64), (400, 90), (90, 400), (1200, 60), (7, 3))
COUNT = 3000


def sizes(width: int, height: int, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((count,), width), torch.full((count,), height)


def box_of(uniform: list[float], width: int, height: int) -> list[int]:
    """RandomResizedCrop.get_params, image by image, with given draws."""
    for attempt in range(ATTEMPTS):
        area = width * height * (SCALE[0] + uniform[attempt] * (SCALE[1] - SCALE[0]))
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        ratio = math.exp(low + uniform[ATTEMPTS + attempt] * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [int(uniform[-2] * (height - h + 1)), int(uniform[-1] * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(w / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(h * RATIO[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_boxes_follow_the_algorithm_of_random_resized_crop(width: int, height: int):
    uniform = torch.rand(300, 2 * ATTEMPTS + 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = crop_boxes(uniform, *sizes(width, height, 300))
    assert boxes.tolist() == [box_of(row, width, height) for row in uniform.tolist()]
    top, left, h, w = boxes.unbind(1)
    assert ((top >= 0) & (left >= 0) & (h > 0) & (w > 0) & (top + h <= height) & (left + w <= width)).all()


@pytest.mark.parametrize(("width", "height"), [(500, 375), (90, 400)])
def test_boxes_are_distributed_as_torchvisions(width: int, height: int):
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(COUNT)])
    ours = draw(0, 0, torch.arange(COUNT), *sizes(width, height)).boxes
    for columns in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2]):
        result: Any = stats.ks_2samp(columns(ours.double()), columns(theirs.double()))
        assert result.pvalue > 1e-3


def test_flips_factors_and_orders_are_distributed_as_the_original_transforms():
    draws = draw(1, 2, torch.arange(COUNT), *sizes(64, 64))
    assert stats.binomtest(int(draws.flips.sum()), COUNT).pvalue > 1e-3
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.2)
    for column, name in zip(draws.factors.unbind(1), JITTER, strict=True):
        low, high = getattr(jitter, name)
        assert stats.kstest(column, "uniform", (low, high - low)).pvalue > 1e-3
    found = {tuple(order): 0 for order in draws.orders.tolist()}
    for order in draws.orders.tolist():
        found[tuple(order)] += 1
    assert len(found) == 24 and stats.chisquare(list(found.values())).pvalue > 1e-3


def test_draws_of_an_image_depend_on_seed_epoch_and_id_alone():
    few, many = (draw(3, 1, torch.tensor(ids), *sizes(80, 60, len(ids))) for ids in ([5, 2], [0, 1, 2, 3, 4, 5]))
    for a, b in zip(few, many, strict=True):
        assert torch.equal(a, b[[5, 2]])
    for seed, epoch in ((4, 1), (3, 2)):
        assert not torch.equal(draw(seed, epoch, torch.tensor([5, 2]), *sizes(80, 60, 2)).boxes, few.boxes)


def test_centres_are_those_of_resize_and_center_crop():
    generator = torch.Generator().manual_seed(0)
    widths, heights = torch.randint(8, 700, (2, 150), generator=generator)
    widths[:20] = heights[:20]
    found = centre(widths, heights, 256, 224)
    for width, height, size, corner in zip(
        widths.tolist(), heights.tolist(), *map(torch.Tensor.tolist, found), strict=True
    ):
        rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
        resized = Resize(256)(rows[None])
        assert [*resized.shape[1:]] == size
        marked = torch.arange(size[0] * size[1]).view(1, *size)
        assert int(CenterCrop(224)(marked)[0, 0, 0]) == corner[0] * size[1] + corner[1]
