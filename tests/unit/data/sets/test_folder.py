"""Images in one folder per class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    assert data.mean == pytest.approx((100 / 255, 0, 100 / 255)) and data.std == pytest.approx(
        (100 / 255, 0, 100 / 255)
    )
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
    Image.new("RGBA", (8, 8), (1, 2, 3, 128)).save(root / "test" / "blue" / "0.png")
    images = load_dataset("folder", root, image_size=8).test.images
    assert images[:, :, 0, 0].tolist() == [[1, 2, 3], [7, 7, 7]]


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
        (lambda root: (root / "train" / "green").mkdir(), "class 'green' is in one of"),
        (lambda root: remove(root / "test" / "red"), "class 'red' is in one of"),
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
