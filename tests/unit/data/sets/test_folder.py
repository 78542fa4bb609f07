"""Images in one folder per class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.sets.load import load_dataset

COLOURS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of plain colours: 2 + 2 training images of different shapes and 1 + 1 test images."""
    for name, colour in COLOURS.items():
        for part, sizes in (("train", [(20, 10), (9, 30)]), ("test", [(16, 16)])):
            (tmp_path / part / name).mkdir(parents=True)
            for i, size in enumerate(sizes):
                Image.new("RGB", size, colour).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_classes_are_sorted_folders_and_every_image_is_there(root: Path):
    (root / "train" / "red" / "notes.txt").write_text("not an image")
    (root / "train" / ".cache").mkdir()
    data = load_dataset("folder", root, image_size=8)
    assert data.classes == ("blue", "red") and data.image_size == 8
    assert data.train.labels.tolist() == [0, 0, 1, 1] and data.test.labels.tolist() == [0, 1]
    for image, label in zip(data.train.images, data.train.labels.tolist(), strict=True):
        assert (image.permute(1, 2, 0).numpy() == list(COLOURS.values())[label]).all()
    assert data.mean == pytest.approx((100 / 255, 0, 100 / 255))
    assert data.std == pytest.approx((100 / 255, 1, 100 / 255))  # no green, no spread
    assert (data.crop_padding, data.flip) == (1, True)


def test_shorter_side_is_resized_and_the_centre_kept(root: Path):
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 255  # the white middle third of a wide image
    Image.fromarray(pixels).save(root / "test" / "red" / "0.png")
    data = load_dataset("folder", root, image_size=16)
    assert (data.test.images[1] == 255).all()
    assert load_dataset("folder", root, image_size=8).test.images[1, :, :, 1:-1].min() == 255


def test_grey_and_transparent_images_become_rgb(root: Path):
    Image.new("L", (8, 8), 7).save(root / "test" / "red" / "0.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 51)).save(root / "test" / "blue" / "0.png")
    images = load_dataset("folder", root, image_size=8).test.images
    assert images[:, :, 0, 0].tolist() == [[204, 204, 205], [7, 7, 7]]  # a fifth of its colour on white


def save_everywhere(root: Path, draw: Callable[[int], Image.Image]) -> None:
    """Replace every image of the folder by draw(number of its class)."""
    for part, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(sorted(COLOURS)):
            for i in range(count):
                draw(label).save(root / part / name / f"{i}.png")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (240, 250, 245), (0, 0, 200)])
def test_shapes_given_by_alpha_alone_are_seen_whatever_their_colour(root: Path, colour: tuple[int, int, int]):
    def draw(label: int) -> Image.Image:
        image = Image.new("RGBA", (8, 8), (*colour, 0))
        image.paste((*colour, 255), (0, 0, 8, 4) if label else (0, 0, 4, 8))  # the upper half, or the left one
        return image

    save_everywhere(root, draw)
    data = load_dataset("folder", root, image_size=8)
    left, upper = (image.double().mean(0) for image in data.test.images)
    assert left[:, :4].std() == 0 and upper[:4].std() == 0
    assert (left[:, :4].mean() - left[:, 4:].mean()).abs() > 100 and (upper[:4].mean() - upper[4:].mean()).abs() > 100
    assert min(data.std) > 0.1


def test_a_channel_without_spread_is_not_scaled_and_named(root: Path, caplog: pytest.LogCaptureFixture):
    save_everywhere(root, lambda label: Image.new("RGB", (8, 8), (10, 77, 200 * label)))
    data = load_dataset("folder", root, image_size=8)
    assert data.std[:2] == (1.0, 1.0) and data.std[2] == pytest.approx(100 / 255)
    assert "no spread in red and green" in caplog.text
    source = BatchSource(data, data.train, batch_size=4, seed=0, device=torch.device("cpu"))
    assert source.batch(0, 0).images.abs().max() == pytest.approx(1)


def test_one_pixel_off_by_one_level_is_no_spread_to_divide_by(root: Path):
    def draw(label: int) -> Image.Image:
        image = Image.new("RGB", (8, 8), (50, 50, 50))
        image.putpixel((3, 3), (50, 50, 50 + label))
        return image

    save_everywhere(root, draw)
    data = load_dataset("folder", root, image_size=8)
    images = BatchSource(data, data.train, batch_size=4, seed=0, device=torch.device("cpu")).batch(0, 0).images
    assert images.isfinite().all() and images.abs().max() < 1


def test_images_that_are_all_equal_are_refused(root: Path):
    save_everywhere(root, lambda label: Image.new("RGB", (8, 8), (0, 0, 200)))
    with pytest.raises(ValueError, match=r"all 4 training images are equal; expected images that differ"):
        load_dataset("folder", root, image_size=8)


def test_val_stands_for_test(root: Path):
    expected = load_dataset("folder", root, image_size=8).fingerprint()
    (root / "test").rename(root / "val")
    assert load_dataset("folder", root, image_size=8).fingerprint() == expected


def remove(path: Path) -> None:
    for child in path.iterdir():
        child.unlink() if child.is_file() else remove(child)
    path.rmdir()


def truncate(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: remove(root / "train"), r"needs train/CLASS/\* and test/CLASS/\*"),
        (lambda root: remove(root / "test"), r"needs train/CLASS/\* and test/CLASS/\*"),
        (lambda root: (root / "train" / "green").mkdir(), "class 'green' is in .*train and not in .*test"),
        (lambda root: remove(root / "test" / "red"), "class 'red' is in .*train and not in .*test"),
        (lambda root: (root / "test" / "red" / "0.png").unlink(), "test/red holds no image"),
        (
            lambda root: [remove(root / part / name) for part in ("train", "test") for name in COLOURS],
            "holds 0 classes",
        ),
        (lambda root: truncate(root / "train" / "red" / "1.png"), r"train/red/1\.png can't be read as an image"),
        (lambda root: (root / "test" / "red" / "0.png").write_bytes(b""), r"test/red/0\.png can't be read as an image"),
    ],
)
def test_faults_are_named_in_one_line(spoil, words: str, root: Path):
    spoil(root)
    with pytest.raises(ValueError, match=words) as caught:
        load_dataset("folder", root, image_size=8)
    assert "\n" not in str(caught.value)


def test_image_size_is_needed(root: Path):
    with pytest.raises(ValueError, match="needs --image_size"):
        load_dataset("folder", root)
