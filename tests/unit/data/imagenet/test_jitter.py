"""Colour jitter on a batch equals torchvision's ColorJitter on Pillow images pixel for pixel; twist, DALI's own."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from darts_hpc.data.imagenet.read.augment_params import draw
from darts_hpc.data.imagenet.read.jitter import OPERATIONS, jitter_batch, twist_batch

THEIRS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def colours() -> Tensor:
    """Images (16, 64, 64, 3): a sixteenth grid of all colours, edges and greys among them, shuffled."""
    levels = torch.tensor([*range(0, 256, 17), 1, 2, 127, 128, 253, 254])  # 22
    grid = torch.tensor(list(itertools.product(levels.tolist(), repeat=3)), dtype=torch.uint8)  # (10648, 3)
    noise = torch.randint(0, 256, (16 * 64 * 64 - len(grid), 3), generator=torch.Generator().manual_seed(0))
    both = torch.cat([grid, noise.to(torch.uint8)])
    return both[torch.randperm(len(both), generator=torch.Generator().manual_seed(1))].view(16, 64, 64, 3)


def pillow(images: Tensor, factors: Tensor, orders: Tensor) -> Tensor:
    """torchvision, image by image."""
    changed = []
    for pixels, factor, order in zip(images, factors.tolist(), orders.tolist(), strict=True):
        image = Image.fromarray(pixels.numpy())
        for number in order:
            image = THEIRS[number](image, factor[number])  # pyright: ignore[reportArgumentType]
        changed.append(torch.from_numpy(np.array(image)))
    return torch.stack(changed)


@pytest.mark.parametrize("number", range(4), ids=["brightness", "contrast", "saturation", "hue"])
def test_each_operation_equals_torchvisions(number: int):
    images = colours()
    low, high = (-0.5, 0.5) if number == 3 else (0.0, 2.0)
    factors = torch.linspace(low, high, 16, dtype=torch.float64)
    ours = OPERATIONS[number](images, factors)
    only = torch.full((16, 1), number)
    assert torch.equal(ours, pillow(images, factors[:, None].expand(16, 4), only))


def test_jitter_equals_torchvisions_in_each_images_own_order():
    images = colours()
    size = torch.full((16,), 64)
    for epoch in range(3):
        draws = draw(0, epoch, torch.arange(16), size, size)
        ours = jitter_batch(images, draws.factors, draws.orders)
        assert torch.equal(ours, pillow(images, draws.factors, draws.orders))
        assert not torch.equal(ours, jitter_batch(images, draws.factors, draws.orders.flip(1)))
    assert torch.equal(images, colours())  # what came in is left alone


def test_images_without_colour_or_of_one_pixel_are_no_exception():
    for shape in ((3, 1, 1, 3), (3, 5, 7, 3)):
        for level in (0, 128, 255):
            images = torch.full(shape, level, dtype=torch.uint8)
            size = torch.ones(3, dtype=torch.int64)
            draws = draw(0, 0, torch.arange(3), size, size)
            assert torch.equal(jitter_batch(images, *draws[2:]), pillow(images, *draws[2:]))
    assert jitter_batch(torch.empty(0, 4, 4, 3, dtype=torch.uint8), *(part[:0] for part in draws[2:])).shape[0] == 0


def test_twist_equals_dalis_color_twist_but_for_ties_of_rounding():
    fn, pipeline_def = pytest.importorskip("nvidia.dali.fn"), pytest.importorskip("nvidia.dali").pipeline_def
    images, size = colours(), torch.full((16,), 64)
    factors = draw(0, 0, torch.arange(16), size, size).factors

    @pipeline_def(batch_size=16, num_threads=1, device_id=None)
    def color_twist():
        pixels = fn.external_source(source=[[image.numpy() for image in images]], layout="HWC")
        names = ("brightness", "contrast", "saturation", "hue")
        values = factors.float() * torch.tensor([1, 1, 1, 360])
        scales = [fn.external_source(source=[list(column.numpy())]) for column in values.unbind(1)]
        return fn.color_twist(pixels, **dict(zip(names, scales, strict=True)))

    pipeline = color_twist()
    pipeline.build()
    theirs = torch.from_numpy(np.array(pipeline.run()[0].as_array()))
    difference = (twist_batch(images, factors).int() - theirs.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-4
    assert (images.int() - theirs.int()).abs().float().mean() > 10


def test_twist_of_an_image_does_not_depend_on_its_batch():
    images, size = colours(), torch.full((16,), 64)
    factors = draw(0, 1, torch.arange(16), size, size).factors
    whole = twist_batch(images, factors)
    for rows in torch.arange(16).split(3):
        assert torch.equal(twist_batch(images[rows], factors[rows]), whole[rows])
    assert torch.equal(twist_batch(images[:, :63, :61], factors), whole[:, :63, :61])
    assert twist_batch(images[:0], factors[:0]).shape == (0, 64, 64, 3)
