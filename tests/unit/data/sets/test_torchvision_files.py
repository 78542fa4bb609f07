"""CIFAR and SVHN from tiny files in their official formats, with no network."""

import hashlib
import pickle
import re
from pathlib import Path
from typing import cast
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets

from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World

RANDOM = np.random.default_rng(0)
PIXELS = {part: RANDOM.integers(0, 256, (count, 3, 32, 32), np.uint8) for part, count in (("train", 10), ("test", 4))}
LABELS = {"train": [3, 9, 0, 1, 2, 5, 4, 7, 6, 8], "test": [1, 0, 9, 4]}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_pickle(path: Path, content: dict) -> tuple[str, str]:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path.name, md5(path)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, kind = root / "cifar-10-batches-py", datasets.CIFAR10
    flat = {part: pixels.reshape(-1, 3072) for part, pixels in PIXELS.items()}
    train = [
        write_pickle(folder / f"data_batch_{i + 1}", {"data": flat["train"][s], "labels": LABELS["train"][s]})
        for i, s in enumerate(slice(j, j + 2) for j in range(0, 10, 2))
    ]
    test = [write_pickle(folder / "test_batch", {"data": flat["test"], "labels": LABELS["test"]})]
    name, digest = write_pickle(folder / "batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", test)
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": "label_names", "md5": digest})


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, kind = root / "cifar-100-python", datasets.CIFAR100
    for part, pixels in PIXELS.items():
        content = {"data": pixels.reshape(-1, 3072), "fine_labels": LABELS[part], "coarse_labels": [0] * len(pixels)}
        monkeypatch.setattr(kind, f"{part}_list", [write_pickle(folder / part, content)])
    name, digest = write_pickle(folder / "meta", {"fine_label_names": [f"class {i}" for i in range(100)]})
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": "fine_label_names", "md5": digest})


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {}
    for part, pixels in PIXELS.items():
        path = root / f"{part}_32x32.mat"
        labels = np.array([[label or 10] for label in LABELS[part]], np.uint8)  # SVHN calls the digit 0 class 10
        scipy.io.savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": labels})
        listed[part] = ["http://nowhere.invalid/", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


SETS = {"cifar10": write_cifar10, "cifar100": write_cifar100, "svhn": write_svhn}
A_FILE = {"cifar10": "cifar-10-batches-py/data_batch_3", "cifar100": "cifar-100-python/train", "svhn": "test_32x32.mat"}
PLACE = {
    "cifar10": "cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a), unpacked to",
    "cifar100": "cifar-100-python.tar.gz (md5 eb9058c3a382ffc7106e4002c42a8d85), unpacked to",
    "svhn": "train_32x32.mat (md5 e26dedcc434d2e4c54c9b2d4a06d8373) and test_32x32.mat",
}
STATISTICS = {  # the original's utils.py, and those of the forks for the other two
    "cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
each_set = pytest.mark.parametrize("name", SETS)


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloads that were tried; each of them fails."""
    tried: list[str] = []

    def fail(url: str, *args, **kwargs):
        tried.append(url)
        raise URLError("no route\nto host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail)
    return tried


class Rank:
    """One of two ranks; the main one's words are `heard`."""

    def __init__(self, is_main: bool, heard: str | None = None):
        self.is_main, self.heard = is_main, heard

    def broadcast_object(self, value):
        self.heard = value if self.is_main else self.heard
        return self.heard


def world(is_main: bool, heard: str | None = None) -> World:
    return cast(World, Rank(is_main, heard))


@each_set
def test_pixels_labels_and_statistics_are_those_of_the_files(name: str, tmp_path: Path, monkeypatch, downloads):
    SETS[name](tmp_path, monkeypatch)
    data = load_dataset(name, tmp_path)
    for part in ("train", "test"):
        images = getattr(data, part)
        assert np.array_equal(images.images.numpy(), PIXELS[part]) and images.images.dtype == torch.uint8
        assert images.labels.tolist() == LABELS[part] and images.labels.dtype == torch.int64
    assert (data.name, data.image_size, data.num_classes) == (name, 32, 100 if name == "cifar100" else 10)
    assert (data.mean, data.std) == STATISTICS[name]
    assert (data.crop_padding, data.flip) == (4, True)
    assert not downloads


@each_set
def test_images_can_be_had_at_another_size(name: str, tmp_path: Path, monkeypatch):
    SETS[name](tmp_path, monkeypatch)
    data = load_dataset(name, tmp_path, image_size=16)
    assert data.train.images.shape == (10, 3, 16, 16) and data.train.images.dtype == torch.uint8
    assert data.crop_padding == 2
    difference = data.train.images.float().mean((2, 3)) - torch.from_numpy(PIXELS["train"]).float().mean((2, 3))
    assert difference.abs().max() < 4


@each_set
def test_missing_files_give_one_line_that_says_what_to_place_where(name: str, tmp_path: Path, downloads):
    with pytest.raises(ValueError) as caught:
        load_dataset(name, tmp_path / "data")
    message = str(caught.value)
    assert "\n" not in message and downloads and not (tmp_path / "data").exists()
    assert message.startswith(f"{tmp_path / 'data'} holds no {name.upper()}")
    assert PLACE[name] in message and "no route" in message


@each_set
def test_one_missing_file_is_named(name: str, tmp_path: Path, monkeypatch):
    SETS[name](tmp_path, monkeypatch)
    (tmp_path / A_FILE[name]).unlink()
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / A_FILE[name]))} is missing \\("):
        load_dataset(name, tmp_path)


@each_set
def test_a_truncated_file_is_named(name: str, tmp_path: Path, monkeypatch):
    SETS[name](tmp_path, monkeypatch)
    path = tmp_path / A_FILE[name]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is damaged \\(.*; place .*") as caught:
        load_dataset(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_the_right_digest_is_one_line_too(tmp_path: Path, monkeypatch):
    for name, write in SETS.items():
        write(tmp_path, monkeypatch)
        path = tmp_path / A_FILE[name]
        path.write_bytes(path.read_bytes()[:60])
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *args: True)
    for name in SETS:
        with pytest.raises(ValueError, match=f"{re.escape(A_FILE[name])} is damaged"):
            load_dataset(name, tmp_path)


def test_only_the_main_process_downloads_and_all_raise_its_error(tmp_path: Path, downloads):
    main = world(is_main=True)
    with pytest.raises(ValueError, match="holds no CIFAR10") as caught:
        load_dataset("cifar10", tmp_path, world=main)
    assert len(downloads) == 1
    with pytest.raises(ValueError, match=re.escape(str(caught.value))):
        load_dataset("cifar10", tmp_path, world=world(is_main=False, heard=str(caught.value)))
    assert len(downloads) == 1


def test_a_rank_without_the_files_says_so_when_the_main_one_has_them(tmp_path: Path, downloads):
    with pytest.raises(ValueError, match="holds no CIFAR10"):
        load_dataset("cifar10", tmp_path, world=world(is_main=False))
    assert not downloads


def test_every_rank_reads_the_same_images(tmp_path: Path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    ranks = [load_dataset("svhn", tmp_path, world=world(is_main)) for is_main in (True, False)]
    assert ranks[0].fingerprint() == ranks[1].fingerprint()
