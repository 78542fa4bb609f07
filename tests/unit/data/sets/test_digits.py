"""The digits inside the package."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_hpc.data.sets.load import load_dataset

FILE = Path(str(resources.files("darts_hpc.data.sets"))) / "digits.npz"


def test_1437_digits_train_and_360_test_in_every_class():
    data = load_dataset("digits", Path())
    assert data.train.images.shape == (1437, 3, 16, 16) and data.test.images.shape == (360, 3, 16, 16)
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    assert data.test.labels.bincount().min() >= 35 and data.train.labels.bincount().min() >= 139
    assert (data.crop_padding, data.flip, data.num_classes) == (2, False, 10)
    assert (data.train.images == data.train.images[:, :1]).all()  # grey


def test_pixels_are_the_stored_ones_at_their_own_size():
    with np.load(FILE, allow_pickle=False) as stored:
        images, labels, test = stored["images"], stored["labels"], stored["test"]
    assert images.shape == (1797, 8, 8) and (images.min(), images.max()) == (0, 16) and test.sum() == 360
    assert labels[:10].tolist() == list(range(10))  # the order of scikit-learn's load_digits
    assert int(images.sum()) == 561_718  # and its sum
    data = load_dataset("digits", Path(), image_size=8)
    assert np.array_equal(data.test.images[:, 0].numpy(), np.round(images[test] * (255 / 16)).astype(np.uint8))
    assert np.array_equal(data.test.labels.numpy(), labels[test]) and data.crop_padding == 1


def test_statistics_are_those_of_the_training_part():
    data = load_dataset("digits", Path())
    pixels = data.train.images[:, 0].double().numpy() / 255
    assert data.mean == pytest.approx((pixels.mean(),) * 3) and data.std == pytest.approx((pixels.std(),) * 3)


def test_source_and_licence_are_stored_with_the_images():
    with np.load(FILE, allow_pickle=False) as stored:
        assert "UCI" in str(stored["source"]) and "CC BY 4.0" in str(stored["source"])


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def with_pickles(content: bytes) -> bytes:
    return b"\x80\x04N."  # a pickle of None


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, with_pickles, None])
def test_a_damaged_or_missing_file_gives_one_line(damage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if damage:
        (tmp_path / "digits.npz").write_bytes(damage(FILE.read_bytes()))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"digits\.npz is missing or damaged .* install darts_hpc again") as caught:
        load_dataset("digits", Path())
    assert "\n" not in str(caught.value)
