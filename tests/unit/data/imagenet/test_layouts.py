"""ImageNet as it is downloaded: a line that says what was found and what to do, or it is read as it lies."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_imagenet import make_tree

from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.listing import list_data
from darts_hpc.data.imagenet.list.manifest import Manifest
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.data.imagenet.prepare.packing import pack
from darts_hpc.distributed.world import World

ALONE = World(torch.device("cpu"))


def flatten(root: Path) -> dict[str, str]:
    """Put the images of val/ beside one another; return their names and classes."""
    classes = {}
    for path in sorted((root / "val").glob("*/*")):
        classes[path.name] = path.parent.name
        path.rename(root / "val" / path.name)
    for folder in (root / "val").glob("*/"):
        folder.rmdir()
    return classes


def kaggle(classes: dict[str, str]) -> str:
    rows = [f"{name.removesuffix('.JPEG')},{label} 1 2 3 4 {label} 5 6 7 8" for name, label in classes.items()]
    return "\n".join(["ImageId,PredictionString", *rows[::-1]]) + "\n"


FORMS: dict[str, Callable[[dict[str, str]], str]] = {
    "LOC_val_solution.csv": kaggle,
    "val_labels.txt": lambda classes: "".join(f"{name} {label}\n" for name, label in classes.items()),
    "val/val_labels.txt": lambda classes: "".join(
        f"{name} {['ant', 'bee', 'cat'].index(label)}\n" for name, label in classes.items()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_flat_validation_images_have_the_classes_that_a_file_names(own_tree: Path, manifest: Manifest, form: str):
    labels = dict(zip(map(manifest.val.name, range(13)), manifest.val.labels.tolist(), strict=True))
    classes = flatten(own_tree)
    (own_tree / form).write_text("\ufeff" + FORMS[form](classes), encoding="utf-8")
    flat, path = open_manifest(own_tree, None, ALONE)
    assert flat.classes == manifest.classes and len(flat.train) == len(manifest.train)
    for i in range(13):
        name = Path(flat.val.name(i)).name
        assert flat.val.labels[i] == labels[f"val/{classes[name]}/{name}"]
    assert open_manifest(own_tree, path, ALONE)[0].digest() == flat.digest()  # nothing has changed since
    pack(own_tree, flat, own_tree.parent / "packed", shard_bytes=9_000, seed=0, num_threads=1)
    assert build_manifest(own_tree.parent / "packed", 1).digest() == flat.digest()


def test_kaggles_folders_are_read_with_their_own_labels(tmp_path: Path, manifest: Manifest):
    root = make_tree(tmp_path / "ILSVRC/Data/CLS-LOC")
    (root / "test").mkdir()
    (tmp_path / "LOC_val_solution.csv").write_text(kaggle(flatten(root)))
    assert sorted(build_manifest(root, 1).val.labels) == sorted(manifest.val.labels)
    for above in (tmp_path, tmp_path / "ILSVRC"):
        with pytest.raises(ValueError, match=rf"has no train/ and val/; they lie in {root}: name that"):
            list_data(above)


def test_validation_alone_takes_the_classes_from_the_file(own_tree: Path):
    (own_tree / "val_labels.txt").write_text(FORMS["val_labels.txt"](flatten(own_tree)))
    (own_tree / "train").rename(own_tree / "elsewhere")
    assert list_data(own_tree, ("val",)).classes == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("val_004.JPEG", "other.JPEG"), r"has no line for val/val_004.JPEG \(1 of 13 images"),
        (lambda text: text.replace("ant", "wasp"), "val_000 is of class 'wasp', which train has not; .* such as 'ant'"),
        (lambda text: text.replace("cat", "bee"), r"hold no image of class 'cat' \(label 2 of 0 to 2\)"),
        (
            lambda text: text + "\nval_004.JPEG bee\n\nval_004 cat\n",
            r"val_labels.txt: val_004 is of class 'bee' in line 7 and of 'cat' in line 17; expected one class per",
        ),
        (lambda text: "1\n2\n3\n", r"line 1 is '1'; expected an image's name and its class, such as 'ILSVRC2012_val"),
    ],
)
def test_labels_that_do_not_fit_are_refused(own_tree: Path, spoil: Callable[[str], str], said: str):
    (own_tree / "val_labels.txt").write_text(spoil(FORMS["val_labels.txt"](flatten(own_tree))))
    with pytest.raises(ValueError, match=said):
        list_data(own_tree)


def shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def both(root: Path, labels: tuple[bytes, ...]) -> None:
    for part in ("train", "val"):
        files = {
            f"{i}.{kind}": text for i, label in enumerate(labels) for kind, text in (("jpg", b"x"), ("cls", label))
        }
        shard(root / f"{part}.tar", files)


def only_archives(root: Path) -> None:
    shard(root / "ILSVRC2012_img_train.tar", {"n01440764.tar": b"x"})
    shard(root / "ILSVRC2012_img_val.tar", {"ILSVRC2012_val_00000001.JPEG": b"x"})


def compressed(root: Path, name: str = "train-0.tar.gz") -> None:
    both(root, (b"0", b"1"))
    (root / name).write_bytes(gzip.compress((root / "val.tar").read_bytes()))


def with_names(root: Path, names: str = "ant\nbee\ncat\n") -> None:
    both(root, (b"0", b"1"))
    (root / "classes.txt").write_text(names)


def with_folder(root: Path) -> None:
    both(root, (b"0", b"1"))
    (root / "classes.txt").mkdir()


def pipe(root: Path) -> None:
    both(root, (b"0", b"1"))
    os.mkfifo(root / "train-1.tar")


def zeros(root: Path) -> None:
    both(root, (b"0", b"1"))
    (root / "train-1.tar").symlink_to("/dev/zero")


def class_tars(root: Path) -> None:
    for name in ("n01440764", "n01443537"):
        shard(root / "train" / f"{name}.tar", {f"{name}_1.JPEG": b"x"})
    (root / "val").mkdir()


def flat(root: Path) -> None:
    flatten(make_tree(root))


def flat_with_truth(root: Path) -> None:
    flat(root)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n")


def test_blank_lines_after_the_classes_names_are_no_names(tmp_path: Path):
    with_names(tmp_path, "ant\nbee\n\n \n")
    assert list_data(tmp_path).classes == ("ant", "bee")


def test_what_systems_leave_behind_is_passed_over_in_a_tar_as_in_a_tree(tmp_path: Path):
    both(tmp_path, (b"0", b"1"))
    junk = (
        "__MACOSX/a.jpg",
        "@eaDir/a.jpg/T.jpg",
        ".cache/a.jpg",
        "x/@Recycle/a.jpg",
        "x/._a.jpg",
        "__pycache__/a.cls",
    )
    shard(tmp_path / "train-1.tar", dict.fromkeys([*junk, "./x/a.jpg"], b"x") | {"./x/a.cls": b"1"})
    assert [entry.name for entry in list_data(tmp_path).entries["train"]] == ["0", "1", "x/a"]


LAYOUTS = {
    "class tars": (class_tars, r"train holds 2 tars of classes, such as n01440764.tar.*unpack each into a folder"),
    "archives": (only_archives, r"holds ILSVRC2012_img_train.tar as it is downloaded; unpack it to train/CLASS/\*"),
    "flat val": (flat, r"val holds 13 images, such as val_000.JPEG, and no class folders; expected .*val_labels.txt"),
    "ground truth": (flat_with_truth, r"ILSVRC2012_validation_ground_truth.txt counts the classes in an order of its"),
    "one folder deeper": (lambda root: make_tree(root / "imagenet"), r"they lie in .*imagenet: name that"),
    "labels from 1": (lambda root: both(root, (b"1", b"2")), r"no image of class '0' \(label 0 of 0 to 2\); .* from 0"),
    "labels with holes": (lambda root: both(root, (b"0", b"2")), r"no image of class '1' \(label 1 of 0 to 2\)"),
    "more names than labels": (with_names, r"no image of class 'cat' \(label 2 of 0 to 2\)"),
    "a blank line among the names": (
        lambda root: with_names(root, "ant\n\nbee\n"), "classes.txt line 2 is blank; expected the classes' names, one",
    ),
    "a NUL in a name": (lambda root: with_names(root, "ant\nb\0e\n"), "classes.txt line 2 holds a NUL; expected"),
    "a name twice": (lambda root: with_names(root, "ant\nant\n"), "classes.txt names 'ant' in line 1 and in line 2"),
    "classes.txt is a folder": (with_folder, r"classes.txt can't be read \(Is a directory\); .* names, one a line"),
    "a pipe for a tar": (pipe, r"train-1.tar is a folder, a pipe or a device; expected a file"),
    "zeros for a tar": (zeros, r"train-1.tar is a folder, a pipe or a device; expected a file"),
    "compressed tars": (compressed, r"train-0.tar.gz is compressed; .* decompress it"),
    "compressed, and called tar": (
        lambda root: compressed(root, "train-0.tar"),
        r"train-0.tar is compressed \(gzip\); .* decompress it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_read_is_explained_in_one_line(tmp_path: Path, layout: str):
    make, said = LAYOUTS[layout]
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=said) as refusal:
        open_manifest(tmp_path, None, ALONE)
    assert "\n" not in str(refusal.value) and sorted(tmp_path.rglob("*")) == before
