"""A tree of images is listed by one rule, whether it is a small data set or ImageNet."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from darts_hpc.data.imagenet.list.listing import list_data
from darts_hpc.data.sets.load import dataset_facts, load_dataset

LISTERS: dict[str, Callable[[Path], int]] = {
    "folder": lambda root: len(load_dataset("folder", root, image_size=8).train),
    "imagenet": lambda root: len(list_data(root).entries["train"]),
}


def save(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, 7, 7)).save(path, "PNG")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; two training images of each."""
    for part in ("train", "val"):
        for i, name in enumerate(("ant", "bee")):
            for j in range(2):
                save(tmp_path / "data" / part / name / f"{j}.png", 60 * (2 * i + j))
    return tmp_path / "data"


def link(path: Path, target: str) -> None:
    path.symlink_to(target)


def nested_twice(root: Path) -> None:
    save(root / "train/ant/more/2.png")
    link(root / "train/ant/again", "more")  # sorted before it
    link(root / "train/ant/more/loop", "../more")


TREES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "hidden files": (lambda root: save(root / "train/ant/._0.png"), 4, ""),
    "folders that systems leave": (
        lambda root: [
            save(root / "train" / folder / name / "x.png")
            for folder in (".", "ant")
            for name in ("lost+found", "__MACOSX", "@eaDir", "@Recycle", "~snapshot", "__pycache__", ".ipynb_cache")
        ],
        4,
        "",
    ),
    "folders inside of a class": (
        lambda root: save(root / "train/ant/more/deep/2.png"),
        5,
        "1 images in folders inside of class folders count as those classes', such as train/ant/more/deep/2.png",
    ),
    "links into their own class": (lambda root: link(root / "train/ant/loop", "."), 4, ""),
    "links out of their class": (lambda root: link(root / "train/ant/up", "../.."), 4, ""),
    "a link beside the classes to all of them": (lambda root: link(root / "train/every", "."), 4, ""),
    "two ways to a folder": (nested_twice, 5, "1 images in folders inside of class folders"),
    "a link to images elsewhere": (
        lambda root: (save(root.parent / "far/2.png"), link(root / "train/ant/far", "../../../far")),
        5,
        "1 images in folders",
    ),
    "other files": (
        lambda root: [(root / "train/ant" / name).touch() for name in ("a.heic", "b.heic", "Thumbs.db", "noext")],
        4,
        "4 files are no images by their names and are left out (2 .heic, 1 .db, 1 without a suffix), such as train",
    ),
    "images beside the classes": (
        lambda root: save(root / "train/stray.png"),
        4,
        "1 images beside the class folders are left out, such as train/stray.png",
    ),
}


@pytest.mark.parametrize("lister", LISTERS)
@pytest.mark.parametrize("case", TREES)
def test_what_counts_and_what_is_said(root: Path, caplog: pytest.LogCaptureFixture, lister: str, case: str):
    spoil, count, said = TREES[case]
    spoil(root)
    assert LISTERS[lister](root) == count
    assert said in caplog.text if said else "such as" not in caplog.text
    assert dataset_facts("folder", root, 8).num_train == count


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a class of one part": (lambda root: save(root / "val/wasp/0.png"), "class 'wasp' is in .*val and not in .*train"),
    "a class without images": (
        lambda root: [(root / "val/ant" / f"{i}.png").rename(root / "val/ant" / f"{i}.heic") for i in range(2)],
        r"val/ant holds no image \(.bmp, .gif, .*; it has 2 .heic\); fill it, or remove it from train and val",
    ),
    "a class in Latin-1": (
        lambda root: [(root / part / "ant").rename(root / part / "caf\udce9") for part in ("train", "val")],
        r"train holds the class 'caf\\udce9'; expected a name in UTF-8, on one line: rename it",
    ),
    "a class on two lines": (
        lambda root: [(root / part / "ant").rename(root / part / "a\nt") for part in ("train", "val")],
        r"holds the class 'a\\nt'",
    ),
    "tars of classes": (
        lambda root: [shutil.rmtree(root / "train"), (root / "train").mkdir(), (root / "train" / "a.zip").touch()],
        r"class 'ant' is in .*val and not in .*train|train holds 0 classes, and 1 .zip",
    ),
    "no class folders": (
        lambda root: [
            shutil.move(path, path.parents[1] / f"{path.parent.name}{path.name}") and path.parent.rmdir()
            for path in (root / "train").glob("*/0.png")
            if not path.with_name("1.png").unlink()
        ],
        "train holds 2 images, such as ant0.png, and no class folders; expected train/CLASS/",
    ),
    "a class of hidden files": (
        lambda root: [(root / "val/ant" / f"{i}.png").rename(root / "val/ant" / f"._{i}.png") for i in range(2)],
        "val/ant holds no image",
    ),
}


@pytest.mark.parametrize("lister", LISTERS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(root: Path, lister: str, case: str):
    spoil, said = REFUSED[case]
    spoil(root)
    with pytest.raises(ValueError, match=said) as refusal:
        LISTERS[lister](root)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("lister", LISTERS)
@pytest.mark.parametrize("thing", ["a pipe", "a device", "a link to a pipe"])
def test_no_image_is_waited_for(root: Path, lister: str, thing: str):
    path = root / "train/ant/2.png"
    if thing == "a pipe":
        os.mkfifo(path)
    elif thing == "a device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(root.parent / "pipe")
        path.symlink_to(root.parent / "pipe")
    if lister == "imagenet":
        assert LISTERS[lister](root) == 5  # to be left out by name when it is read
    else:
        with pytest.raises(ValueError, match=r"train/ant/2.png can't be read as an image \(no regular file\); repair"):
            LISTERS[lister](root)


def test_animations_are_named(root: Path, caplog: pytest.LogCaptureFixture):
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (200, 0)]
    frames[0].save(root / "train/ant/2.gif", save_all=True, append_images=frames[1:])
    data = load_dataset("folder", root, image_size=8)
    assert data.train.images[2, 0].min() > 190  # the first of them
    assert "1 images are animations or have several pages, such as " in caplog.text and "ant/2.gif" in caplog.text
