"""DALI's pixels against torchvision's own transforms on Pillow images."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_imagenet import open_loader
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as F

from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.read.samples import MEAN, STD
from darts_hpc.data.imagenet.read.torchvision_loader import augment
from darts_hpc.data.rgb import decode

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


def stored(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def kinds() -> dict[str, bytes]:
    """An image of each kind that people have, by name; the suffix says nothing, as in ImageNet."""
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 200, (8, 10, 3), dtype=np.uint8)).resize((61, 47))
    more, turned = {"save_all": True, "append_images": [image.rotate(90)]}, Image.Exif()
    turned[0x0112] = 6
    wide = Image.fromarray(np.linspace(0, 65_535, 61 * 47).reshape(47, 61).astype(np.uint16))
    sprite = np.zeros((47, 61, 4), np.uint8)
    sprite[10:30, 20:40, 3] = 255  # a black square, by its alpha alone
    adobe = stored(image.convert("CMYK"), "JPEG")  # its Adobe marker comes first, 16 bytes of it
    assert adobe[2:4] == b"\xff\xee" and adobe[17] == 0
    found = {f"{form} turned by EXIF": stored(image, form, exif=turned) for form in ("JPEG", "PNG", "WEBP", "TIFF")}
    found |= {f"{form} of 16 bits": stored(wide, form) for form in ("PNG", "TIFF", "PPM")}
    found |= {f"{form} of two": stored(image, form, **more) for form in ("GIF", "PNG", "WEBP", "TIFF", "MPO")}
    found |= {f"{form} with alpha": stored(Image.fromarray(sprite), form) for form in ("PNG", "WEBP", "TIFF")}
    found |= {f"{form}": stored(image, form) for form in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")}
    return found | {
        "palette with alpha": stored(image.quantize(16), "PNG", transparency=3),
        "black and white": stored(image.convert("1"), "PNG"),
        "grey JPEG": stored(image.convert("L"), "JPEG"),
        "RGB JPEG": stored(image, "JPEG", keep_rgb=True),
        "progressive JPEG": stored(image, "JPEG", progressive=True, subsampling="4:1:1"),
        "CMYK JPEG": adobe,
        "CMYK JPEG without a marker": adobe[:2] + adobe[18:],
        "YCCK JPEG": adobe[:17] + b"\2" + adobe[18:],
        "CMYK TIFF": stored(image.convert("CMYK"), "TIFF"),
    }


REFUSED = {"TIFF of floats": np.float32, "TIFF of 32 bits": np.int32}
MORE_THAN_IMAGEFOLDER = ("16 bits", "alpha")
"""What it saturates or drops."""


def test_both_loaders_give_the_pixels_of_every_kind_or_it_is_refused_by_name_when_listed(tmp_path: Path, caplog):
    refused = {name: stored(Image.fromarray(np.ones((40, 50), kind)), "TIFF") for name, kind in REFUSED.items()}
    for part in ("train", "val"):
        for i, (name, content) in enumerate((kinds() | refused).items()):
            path = tmp_path / part / "ab"[i % 2] / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    manifest = build_manifest(tmp_path, 1)
    assert {Path(one.name).stem for one in manifest.val.damaged} == set(refused)
    assert all("32-bit pixels" in one.reason for one in manifest.val.damaged)
    assert "8 images are animations or have several pages, such as train/a/" in caplog.text  # 4 in each part
    dali, ours = (levels(open_loader(tmp_path, manifest, "val", kind=kind)) for kind in ("dali", "torchvision"))
    cut = transforms.Compose([transforms.Resize(36), transforms.CenterCrop(32), transforms.PILToTensor()])
    assert len(dali) == len(ours) == len(kinds())
    for i, (theirs, pixels) in enumerate(zip(dali, ours, strict=True)):
        name = Path(manifest.val.name(i)).stem
        assert (theirs - pixels).abs().max() < 1.01, name
        assert pixels.std() > 20, name  # no shape is lost
        if not any(word in name for word in MORE_THAN_IMAGEFOLDER):
            with Image.open(io.BytesIO(kinds()[name])) as image:
                picture: Any = image.convert("RGB")
            torch.testing.assert_close(pixels, cut(picture).float(), rtol=0, atol=1e-3, msg=name)


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


def test_without_jitter_both_loaders_cut_resize_and_flip_alone(photos: Path):
    manifest = build_manifest(photos, 1)
    plain = open_loader(photos, manifest, batch_size=10, colours=False)
    ids = torch.cat([plain.samples.order.ids(0, step) for step in range(plain.steps_per_epoch)])
    params = plain.samples.augment_params(0, ids)
    assert params.orders.shape == (len(ids), 0)
    expected = []
    for row, sample_id in enumerate(ids.tolist()):
        top, left, height, width = params.boxes[row].tolist()
        whole: Any = decode((photos / manifest.train.name(sample_id)).read_bytes())
        picture: Any = F.resized_crop(whole, top, left, height, width, [32, 32])
        picture = F.hflip(picture) if params.flips[row] else picture
        expected.append(F.pil_to_tensor(picture).float())
        assert np.array_equal(np.asarray(augment(whole, params, row, 32)), np.asarray(picture))
    assert (levels(plain) - torch.stack(expected)).abs().mean() < 0.5
