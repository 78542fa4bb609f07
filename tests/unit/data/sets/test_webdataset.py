"""Tars as the webdataset package writes them, and as img2dataset does."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darts_hpc.data.sets.load import dataset_facts, load_dataset

webdataset = pytest.importorskip("webdataset")

LEVELS = {"train": [0, 60, 120, 180, 240, 30], "test": [90, 150]}


def picture(level: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (level, 255 - level, 7)).save(file, form)
    return file.getvalue()


def write(path: Path, samples: Iterable[dict[str, Any]]) -> Path:
    """Write samples with the webdataset package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), encoder=False) as sink:
        for sample in samples:
            sink.write(sample)
    return path


def sample(number: int, level: int, **fields: bytes) -> dict[str, Any]:
    return {"__key__": f"{number:09d}", "png": picture(level), **fields}


def by_numbers(root: Path) -> None:
    for part, levels in LEVELS.items():
        for shard in range(2):
            rows = list(enumerate(levels))[shard::2]
            write(root / part / f"{shard:05d}.tar", [sample(i, level, cls=str(i % 2).encode()) for i, level in rows])


def by_img2dataset(root: Path, name: str = "label", labels: tuple[Any, Any] = ("cat", "dog")) -> None:
    for part, levels in LEVELS.items():
        rows = []
        for i, level in enumerate(levels):
            facts = {"url": "u", "caption": "a cat", "key": f"{i:09d}", "status": "success", "error_message": None}
            facts |= {"width": 12, "height": 8, "exif": "{}", name: labels[i % 2]}
            rows.append(sample(i, level, txt=b"a cat", json=json.dumps(facts, indent=4).encode()))
        write(root / part / "00000.tar", rows)


def test_labels_are_numbers_in_cls_files(tmp_path: Path):
    by_numbers(tmp_path)
    data = load_dataset("webdataset", tmp_path, image_size=8)
    assert data.classes == ("0", "1") and data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 120, 240, 60, 180, 30]  # shard by shard
    assert data.test.images.shape == (2, 3, 8, 8) and data.test.images.dtype == torch.uint8
    assert dataset_facts("webdataset", tmp_path, 8) == data.facts()


@pytest.mark.parametrize("labels", [("cat", "dog"), (0, 1), ("0", "1")])
@pytest.mark.parametrize("name", ["label", "cls", "class", "target"])
def test_labels_are_names_or_numbers_in_img2datasets_json(tmp_path: Path, name: str, labels):
    by_img2dataset(tmp_path, name, labels)
    data = load_dataset("webdataset", tmp_path, image_size=8)
    assert data.classes == tuple(map(str, labels)) and data.train.labels.tolist() == [0, 1] * 3


def test_our_images_and_labels_are_those_that_the_webdataset_package_reads(tmp_path: Path):
    by_numbers(tmp_path)
    data = load_dataset("webdataset", tmp_path, image_size=8)
    tars = [str(path) for path in sorted((tmp_path / "train").glob("*.tar"))]
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8").to_tuple("png", "cls"))
    assert [label for _, label in theirs] == data.train.labels.tolist()
    for (pixels, _), image in zip(theirs, data.train.images, strict=True):
        assert np.array_equal(pixels[:, 2:10], image.permute(1, 2, 0).numpy())  # the centre


@pytest.mark.parametrize(
    "names", [("train-000.tar", "val-000.tar"), ("train.tar", "test.tar"), ("train/a.tar", "val/a.tar")]
)
def test_parts_are_told_by_folder_or_by_name(tmp_path: Path, names: tuple[str, str]):
    for name, levels in zip(names, LEVELS.values(), strict=True):
        write(tmp_path / name, [sample(i, level, cls=str(i % 2).encode()) for i, level in enumerate(levels)])
    assert dataset_facts("webdataset", tmp_path, 8)[:2] == (6, 2)


def train_with(root: Path, samples: Iterable[dict[str, Any]]) -> None:
    by_numbers(root)
    (root / "train" / "00001.tar").unlink()
    write(root / "train" / "00000.tar", samples)


GOOD = [sample(0, 10, cls=b"0"), sample(1, 200, cls=b"1")]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([*GOOD, sample(2, 9)], "'000000002' has no label; expected its .cls, or its .json with one of the keys label"),
        ([*GOOD, sample(2, 9, json=b'{"caption": "x"}')], "'000000002' has no label"),
        ([*GOOD, {"__key__": "lone", "cls": b"1"}], "'lone' has a label and no image"),
        ([*GOOD, sample(0, 9, cls=b"1")], "the key '000000000' has two files"),
        ([*GOOD, sample(2, 9, cls=b"cat")], r"'000000002\.cls': the label is 'cat'; expected the number of the class"),
        ([*GOOD, sample(2, 9, cls=b"-1")], "the label is '-1'"),
        ([*GOOD, sample(2, 9, cls=b"99999999")], "the label is '99999999'"),
        ([*GOOD, sample(2, 9, json=b'{"label": 1.5}')], "the label is '1.5'; expected the number .* or its name"),
        ([*GOOD, sample(2, 9, json=b'{"label": true}')], "the label is 'True'"),
        ([*GOOD, sample(2, 9, json=b"{")], r"'000000002\.json' holds no JSON"),
        ([*GOOD, sample(2, 9, json=b'{"label": "cat"}')], "some labels are numbers and some are names"),
        ([*GOOD, sample(3, 9, cls=b"3")], "class '2' has no training image"),
        ([GOOD[0], sample(1, 9, cls=b"0")], "class 1 is in the test tars and not in the train tars"),
        ([*GOOD, {"__key__": "torn", "png": picture(9)[:40], "cls": b"0"}], "'torn' can't be read as an image"),
        ([], "2 train tars|1 train tars, and no image"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, samples, said: str):
    train_with(tmp_path, samples)
    with pytest.raises(ValueError, match=said) as caught:
        load_dataset("webdataset", tmp_path, image_size=8)
    assert "\n" not in str(caught.value)


def test_a_missing_part_and_a_missing_size_are_one_line(tmp_path: Path):
    with pytest.raises(ValueError, match="has no train tars; expected train/"):
        load_dataset("webdataset", tmp_path, image_size=8)
    with pytest.raises(ValueError, match="--dataset webdataset needs --image_size"):
        load_dataset("webdataset", tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_a_tar_cut_short_or_overwritten_is_named(tmp_path: Path, keep: float):
    by_numbers(tmp_path)
    path = tmp_path / "train" / "00001.tar"
    content = path.read_bytes()
    path.write_bytes(content[: int(1536 * keep)])
    with pytest.raises(ValueError, match=r"00001\.tar can't be read as a tar|no image|no label"):
        load_dataset("webdataset", tmp_path, image_size=8)
    path.write_bytes(content[:1024] + b"x" * 512 + content[1536:])
    with pytest.raises(ValueError, match=r"00001\.tar .*copy or pack it again"):
        load_dataset("webdataset", tmp_path, image_size=8)


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    tar.addfile(member, io.BytesIO(content))


def test_names_are_no_paths_and_a_hard_link_is_its_file(tmp_path: Path):
    """Nothing beside the tars is read or written, whatever their names say."""
    by_numbers(tmp_path / "data")
    with tarfile.open(tmp_path / "data" / "train" / "00000.tar", "w") as tar:
        add(tar, "../../evil.png", picture(5))
        add(tar, "../../evil.CLS", b"0")
        add(tar, "/abs.png", kind=tarfile.LNKTYPE, link="../../evil.png")
        add(tar, "/abs.cls", b"1")
        add(tar, "README", kind=tarfile.SYMTYPE, link="elsewhere")
    before = sorted(tmp_path.rglob("*"))
    data = load_dataset("webdataset", tmp_path / "data", image_size=8)
    assert len(data.train) == 2 + 3 and sorted(tmp_path.rglob("*")) == before
    assert data.train.labels[:2].tolist() == [0, 1] and (data.train.images[:2, 0] == 5).all()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "is a symbolic link to '{secret}'"),
        (tarfile.LNKTYPE, "is a hard link to '{secret}', which the tar does not hold before it"),
        (tarfile.FIFOTYPE, "is a pipe or a device"),
    ],
)
def test_a_member_that_is_no_plain_file_is_refused_by_name(tmp_path: Path, kind: bytes, said: str):
    by_numbers(tmp_path / "data")
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(1))
    with tarfile.open(tmp_path / "data" / "train" / "00000.tar", "w") as tar:
        add(tar, "link.png", kind=kind, link=str(secret))
    with pytest.raises(ValueError, match=rf"00000.tar: 'link.png' {said.format(secret=secret)}; expected plain files"):
        load_dataset("webdataset", tmp_path / "data", image_size=8)


def test_a_sparse_file_is_not_expanded(tmp_path: Path):
    by_numbers(tmp_path)
    with tarfile.open(tmp_path / "train" / "00000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("huge.png")
        member.size = 512
        member.pax_headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 40)}
        tar.addfile(member, io.BytesIO(bytes(512)))
    with pytest.raises(ValueError, match=r"'huge\.png' is sparse"):
        load_dataset("webdataset", tmp_path, image_size=8)
