"""DALI's pixels against torchvision's own transforms on Pillow images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_imagenet import open_loader
from torch import Tensor
from torchvision import transforms

from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.read.samples import MEAN, STD
from darts_hpc.data.imagenet.read.torchvision_loader import augment
from darts_hpc.data.rgb import decode, to_rgb

LEVEL = 255 * torch.tensor(STD).view(1, 3, 1, 1)
SHAPES = ((500, 375), (375, 500), (257, 300), (300, 257), (97, 41), (41, 97), (36, 36), (400, 37), (513, 511), (30, 20))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detailed JPEGs of awkward sizes, among them grey, CMYK, progressive, turned by EXIF, and a PNG so named."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i, (width, height) in enumerate(SHAPES * 2):
        coarse = generator.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), dtype=np.uint8)
        image, options = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), {}
        if i == 10:
            image = image.convert("L")
        elif i == 11:
            image = image.convert("CMYK")
        elif i == 12:
            options = {"progressive": True}
        elif i == 13:
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned by a quarter, which ImageFolder does not
            options = {"exif": exif}
        for part in ("train", "val"):
            path = root / part / "ab"[i % 2] / f"{i:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, format="PNG" if i == 14 else "JPEG", **({} if i == 14 else {"quality": 90, **options}))
    return root


def levels(loader) -> Tensor:
    """Pixels in 0..255 of one epoch."""
    images = torch.cat([batch.images for batch in loader.batches(0)])
    return images * LEVEL + 255 * torch.tensor(MEAN).view(1, 3, 1, 1)


def test_validation_pixels_are_within_one_level_of_resize_and_center_crop(photos: Path):
    manifest = build_manifest(photos, 1)
    reference = transforms.Compose([transforms.Resize(36), transforms.CenterCrop(32), transforms.PILToTensor()])
    files = [photos / manifest.val.name(i) for i in range(len(manifest.val))]
    pictures: Any = [reference(Image.open(file).convert("RGB")) for file in files]
    expected = torch.stack(pictures).float()
    difference = (levels(open_loader(photos, manifest, "val")) - expected).abs()
    assert difference.max() < 1.01 and difference.mean() < 0.3
    torch.testing.assert_close(
        levels(open_loader(photos, manifest, "val", kind="torchvision")), expected, rtol=0, atol=1e-3
    )


def test_both_loaders_composite_alpha_and_scale_16_bits(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 200, (40, 60, 4), dtype=np.uint8)
    sprite = np.zeros((40, 60, 4), np.uint8)
    sprite[10:30, 20:40, 3] = 255  # a black square, by its alpha alone
    grey = np.linspace(0, 65_535, 2400).reshape(40, 60).astype(np.uint16)
    palette = Image.fromarray(colours[..., :3].copy()).quantize(16)
    palette.info["transparency"] = 3
    images = [Image.fromarray(colours), Image.fromarray(sprite), Image.fromarray(grey), palette]
    for part in ("train", "val"):
        for i, image in enumerate([*images, Image.fromarray(colours[..., :3].copy())]):
            path = tmp_path / part / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    manifest = build_manifest(tmp_path, 1)
    reference = transforms.Compose([transforms.Resize(36), transforms.CenterCrop(32), transforms.PILToTensor()])
    files = [tmp_path / manifest.val.name(i) for i in range(len(manifest.val))]
    pictures: Any = [reference(to_rgb(Image.open(file))) for file in files]
    expected = torch.stack(pictures).float()
    assert expected.flatten(1).std(1).min() > 20
    for kind in ("dali", "torchvision"):
        found = levels(open_loader(tmp_path, manifest, "val", kind=kind))
        assert (found - expected).abs().max() < 1.01, kind


def test_exact_training_pixels_are_torchvisions_up_to_the_resize(photos: Path):
    manifest = build_manifest(photos, 1)
    exact = open_loader(photos, manifest, exact=True, batch_size=10)
    ids = torch.cat([exact.samples.order.ids(0, step) for step in range(2)])
    draws = exact.samples.augment_params(0, ids)
    images = [decode((photos / manifest.train.name(i)).read_bytes()) for i in ids.tolist()]
    pictures = [np.array(augment(image, draws, row, 32)) for row, image in enumerate(images)]
    expected = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    difference = (levels(exact) - expected).abs()
    assert difference.mean() < 0.5 and (difference < 1.01).float().mean() > 0.9  # hue turns one level into more
    reference = open_loader(photos, manifest, kind="torchvision", batch_size=10)
    torch.testing.assert_close(levels(reference), expected, rtol=0, atol=1e-3)


def test_twist_is_near_exact_jitter_and_far_from_none(photos: Path):
    """Same factors: DALI turns hue in another colour space and pivots contrast on fixed grey, so it is not equal."""
    manifest = build_manifest(photos, 1)
    twist, exact = (levels(open_loader(photos, manifest, exact=exact, batch_size=10)) for exact in (False, True))
    assert 1 < (twist - exact).abs().mean() < 16
    correlation = np.corrcoef(twist.mean((2, 3)).flatten(), exact.mean((2, 3)).flatten())[0, 1]
    assert correlation > 0.85
