"""The manifest: made once, whole or not there, refused when damaged or when the data changed under it."""

import os
import shutil
import signal
import tarfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from lasting_work import lasting_work
from PIL import Image
from ranks import on_ranks
from small_imagenet import make_tree, open_counting, pack_small, save_jpeg, started

from darts_hpc.commands import pack, stage
from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.config.pack import PackConfig
from darts_hpc.config.stage import StageConfig
from darts_hpc.data.imagenet.list import manifest as manifest_module
from darts_hpc.data.imagenet.list import open_manifest as open_module
from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.listing import list_data
from darts_hpc.data.imagenet.list.manifest import Manifest, load_manifest, save_manifest
from darts_hpc.data.imagenet.list.open_manifest import manifest_path, open_manifest
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.data.imagenet.load import open_imagenet, open_validation
from darts_hpc.distributed.world import World

ALONE = World(torch.device("cpu"))


def test_it_says_of_each_image_what_pillow_and_the_file_say(tree: Path, manifest: Manifest):
    assert manifest.classes == ("ant", "bee", "cat")
    for part in (manifest.train, manifest.val):
        names = [part.name(i) for i in range(len(part))]
        assert names == sorted(names)
        assert part.find(["nowhere", *names[3:5]]) == {names[3]: 3, names[4]: 4} and part.find([]) == {}
        for i, name in enumerate(names):
            content = (tree / name).read_bytes()
            assert (part.sizes[i], part.checksums[i]) == (len(content), zlib.crc32(content))
            assert (part.widths[i], part.heights[i]) == Image.open(tree / name).size
            assert manifest.classes[part.labels[i]] == name.split("/")[1]


def test_it_is_made_once_and_read_back_equal(own_tree: Path, monkeypatch: pytest.MonkeyPatch):
    first, path = open_manifest(own_tree, None, ALONE)
    assert path == own_tree / "manifest.npz"
    monkeypatch.setattr(open_module, "build_manifest", lambda *_: pytest.fail("made twice"))
    second, _ = open_manifest(own_tree, None, ALONE)
    assert second.digest() == first.digest() and second.classes == first.classes
    assert [second.val.name(i) for i in range(13)] == [first.val.name(i) for i in range(13)]


def test_processes_that_open_it_at_once_make_it_once(own_tree: Path):
    assert sorted(wait() or 0 for wait in [started(open_counting, own_tree) for _ in range(4)]) == [0, 0, 0, 1]


def test_a_kill_while_it_is_written_leaves_none(own_tree: Path):
    assert started(open_counting, own_tree, failpoint="after_file")() == -signal.SIGKILL
    assert not (own_tree / "manifest.npz").exists()
    assert len(open_manifest(own_tree, None, ALONE)[0].train) == 27


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


CHANGES = {
    "added": (lambda root: save_jpeg(root / "train/ant/new.jpg", 3), r"train/ant/new.jpg was absent and is of \d+"),
    "removed": (lambda root: (root / "val/bee/val_004.JPEG").unlink(), r"val_004.JPEG was of \d+ bytes and is absent"),
    "renamed": (
        lambda root: (root / "train/bee/train_001.JPEG").rename(root / "train/bee/a.JPEG"),
        "a.JPEG was absent",
    ),
    "rewritten": (lambda root: edit(root / "train/cat/train_002.JPEG"), r"train_002.JPEG was of \d+ bytes and is of"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["small", "large"])
def test_data_that_changed_under_it_is_refused(own_tree: Path, change: str, kind: str, monkeypatch):
    _, path = open_manifest(own_tree, None, ALONE)
    if kind == "large":
        monkeypatch.setattr(manifest_module, "ALWAYS_LIST", 10)
    work, message = CHANGES[change]
    work(own_tree)
    if kind == "large" and change == "rewritten":  # found by its checksum, when it is read
        open_manifest(own_tree, None, ALONE)
        return
    with pytest.raises(ValueError, match=rf"{message}.*; restore them, or remove that manifest") as refusal:
        open_manifest(own_tree, None, ALONE)
    assert "\n" not in str(refusal.value)
    path.unlink()
    open_manifest(own_tree, None, ALONE)


OUTSIDE = ("../payload.JPEG", "train/../../payload.JPEG", "/etc/payload.JPEG", "train/\0.JPEG", "")


@pytest.mark.parametrize("column", ["file_names", "folders"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_that_names_what_lies_outside_of_the_data_is_refused(manifest, tmp_path: Path, name, column):
    names = PackedStrings.of([name, *getattr(manifest, column)[1:]])
    save_manifest(replace(manifest, **{column: names}), tmp_path / "manifest.npz")
    with pytest.raises(ValueError, match=r"manifest.npz names '.*'; expected a path inside"):
        load_manifest(tmp_path / "manifest.npz")


@pytest.mark.parametrize(
    "forged",
    [
        lambda m: replace(m, train=replace(m.train, files=m.train.files + 1000)),
        lambda m: replace(m, train=replace(m.train, files=-1 - m.train.files)),
        lambda m: replace(m, val=replace(m.val, labels=m.val.labels + 3)),
        lambda m: replace(m, val=replace(m.val, offsets=m.val.offsets - 1)),
        lambda m: replace(m, val=replace(m.val, sizes=m.val.sizes[:-1])),
        lambda m: replace(m, val=replace(m.val, sizes=m.val.sizes.astype(float))),
        lambda m: replace(m, file_sizes=m.file_sizes[:-1]),
        lambda m: replace(m, file_names=PackedStrings(m.file_names.text[:-1], m.file_names.ends)),
        lambda m: replace(m, file_names=PackedStrings(m.file_names.text, m.file_names.ends[::-1].copy())),
    ],
)
def test_a_manifest_whose_parts_contradict_each_other_is_refused(manifest, tmp_path: Path, forged):
    save_manifest(forged(manifest), tmp_path / "manifest.npz")
    with pytest.raises(ValueError, match=r"manifest.npz can't be used \(.*\); remove it"):
        load_manifest(tmp_path / "manifest.npz")


def test_a_copy_of_the_data_is_no_change(own_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifest_module, "ALWAYS_LIST", 10)
    manifest, _ = open_manifest(own_tree, None, ALONE)
    (tmp_path / "copy").mkdir()
    make_tree(tmp_path / "copy")
    save_manifest(manifest, tmp_path / "copy" / "manifest.npz")
    assert open_manifest(tmp_path / "copy", None, ALONE)[0].digest() == manifest.digest()


@pytest.mark.parametrize("kind", ["tree", "shards"])
def test_validation_alone_needs_no_training_images(tree: Path, manifest: Manifest, tmp_path: Path, kind: str):
    root = tmp_path / kind
    if kind == "shards":
        pack_small(tree, manifest, root)
    else:
        make_tree(root)
    cfg = ImageNetDataConfig(
        data=root, loader="dali", batch_size=2, valid_batch_size=5, image_size=32, resize=36, num_threads=1
    )
    data = open_imagenet(cfg, 0, ALONE)
    expected = [batch.images for batch in data.valid.batches(0)]
    for path in (root / "train", *root.glob("*train*.tar"), *root.glob("train/*.tar")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    valid, classes = open_validation(cfg, 0, ALONE)
    assert classes == data.classes and valid.num_samples == 13
    for images, batch in zip(expected, valid.batches(0), strict=True):
        assert torch.equal(images, batch.images)
    with pytest.raises(ValueError, match=r"have changed since"):
        open_imagenet(cfg, 0, ALONE)
    with pytest.raises(ValueError, match=r"manifest.val.npz has no train images; remove it"):
        open_imagenet(replace(cfg, manifest=root / "manifest.val.npz"), 0, ALONE)


def test_a_shard_that_became_a_link_to_nowhere_is_a_change(tree: Path, manifest: Manifest, tmp_path: Path):
    pack_small(tree, manifest, tmp_path)
    victim = tmp_path / "train-000001.tar"
    victim.unlink()
    victim.symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"train-000001.tar was of \d+ bytes and is a link to nowhere; restore"):
        open_manifest(tmp_path, None, ALONE)


@pytest.mark.parametrize("array", [np.zeros(3), np.array("text")])
def test_an_array_is_no_manifest(tmp_path: Path, array):
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(ValueError, match=r"m.npy can't be used \(it holds a single array, as an .npy file does\)"):
        load_manifest(tmp_path / "m.npy")


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text"])
def test_a_damaged_manifest_is_refused(tree: Path, manifest: Manifest, tmp_path: Path, damage: str):
    path = tmp_path / "m.npz"
    save_manifest(manifest, path)
    content = bytearray(path.read_bytes())
    place = content.index(b"train/bee/train_001.JPEG")
    content[place] ^= 1
    path.write_bytes({"bit": bytes(content), "cut": content[:-50], "empty": b"", "text": b"no zip"}[damage])
    with pytest.raises(ValueError, match=r"m.npz can't be used .*remove it to have it made again"):
        load_manifest(path)


def test_it_goes_to_the_cache_where_the_data_cannot_be_written(tree: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert manifest_path(tree).parent == tmp_path / "darts_hpc"
    assert open_manifest(tree, None, ALONE)[1] == manifest_path(tree)
    with pytest.raises(ValueError, match=r"can't write the manifest .*name another place with --manifest"):
        open_manifest(tree, Path("/proc/nowhere/m.npz"), ALONE)


def test_one_that_another_user_keeps_to_himself_is_made_again_in_the_cache(
    own_tree: Path, tmp_path, monkeypatch, caplog
):
    theirs, path = open_manifest(own_tree, None, ALONE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda name, mode: Path(name) != path)
    ours, place = open_manifest(own_tree, None, ALONE)
    assert place.parent == tmp_path / "cache" / "darts_hpc" and ours.digest() == theirs.digest()
    assert f"the manifest {path} can't be read by this user; another is kept in {place}" in caplog.text


@pytest.mark.parametrize(("way_out", "said"), [((), "name another place with --manifest"), (("repeat",), "repeat")])
def test_a_user_without_a_home_is_told_where_else_it_may_lie(own_tree: Path, monkeypatch, way_out: tuple, said: str):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home")))
    with pytest.raises(
        ValueError, match=rf"manifest.npz can't be written, and .* no home folder .*; {said}, or set XDG"
    ):
        open_manifest(own_tree, None, ALONE, ("train", "val"), *way_out)
    assert open_manifest(own_tree, own_tree.parent / "m.npz", ALONE)[1] == own_tree.parent / "m.npz"


@pytest.mark.parametrize("thing", ["a pipe", "a device", "a folder"])
def test_a_manifest_that_is_no_file_is_refused_and_not_waited_for(own_tree: Path, thing: str):
    path = own_tree / "manifest.npz"
    {"a pipe": os.mkfifo, "a device": lambda path: path.symlink_to("/dev/zero"), "a folder": Path.mkdir}[thing](path)
    with pytest.raises(ValueError, match=r"the manifest .* can't be used .*; remove it to have it made again"):
        open_manifest(own_tree, None, ALONE)


def open_on_own_disk(folder: Path) -> int:
    """Open the manifest of this rank's own folder, which rank 1 reads for longer than a collective waits."""
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    wait, build = lasting_work(), open_module.build_manifest
    if rank == 1:
        open_module.build_manifest = lambda *arguments: wait() or build(*arguments)
    manifest, path = open_manifest(folder / str(rank), None, World(torch.device("cpu"), rank=rank, size=2))
    torch.distributed.destroy_process_group()
    assert path == folder / str(rank) / "manifest.npz"
    return len(manifest.train)


def test_a_node_with_the_data_on_its_own_disk_may_read_it_for_longer_than_a_collective_waits(tmp_path: Path):
    for rank in range(2):
        make_tree(tmp_path / str(rank))
    assert on_ranks(2, open_on_own_disk, tmp_path) == [27, 27]


@pytest.mark.parametrize("folder", ["", "train", "val/bee"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_that_may_not_be_listed_is_no_fault_of_the_manifests_place(own_tree: Path, monkeypatch, folder, kept):
    if kept:
        open_manifest(own_tree, None, ALONE)
    before = sorted(own_tree.rglob("*"))
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, forbidding(getattr(os, name), own_tree / folder))
    with pytest.raises(ValueError, match=rf"{own_tree / folder} can't be read .*Permission denied") as refusal:
        open_manifest(own_tree, None, ALONE)
    assert "--manifest" not in str(refusal.value)
    monkeypatch.undo()
    assert sorted(own_tree.rglob("*")) == before


def forbidding(call, folder: Path):
    def checked(path="."):
        if not isinstance(path, int) and Path(path).resolve() == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return call(path)

    return checked


@pytest.mark.parametrize("entry", ["pack", "stage"])
def test_entries_without_the_flag_do_not_advise_it(tree: Path, tmp_path: Path, monkeypatch, entry: str):
    monkeypatch.setattr(open_module, "manifest_path", lambda *_: Path("/proc/nowhere/m.npz"))
    main, cls = {"pack": (pack.main, PackConfig), "stage": (stage.main, StageConfig)}[entry]
    with pytest.raises(ValueError, match=r"can't write the manifest /proc/nowhere.*; fix that, and run the") as refusal:
        main(cls(source=tree, destination=tmp_path / "there"))
    assert "--manifest" not in str(refusal.value) and not (tmp_path / "there").exists()


def shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


def jpeg(number: int, tmp_path: Path) -> bytes:
    save_jpeg(tmp_path / f"{number}.jpg", number)
    return (tmp_path / f"{number}.jpg").read_bytes()


def test_tars_made_elsewhere_are_read(tmp_path: Path):
    """Keys with folders, several shards, other files of a sample, long names, images before or after their labels."""
    a, b, c, d = (jpeg(i, tmp_path / "jpegs") for i in range(4))
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    long = "x" * 120
    shard(root / "train" / "part-1-train.tar", {"z/1.cls": b"1\n", "z/1.jpg": a, "z/1.json": b"{}"})
    shard(root / "train" / "part-0-train.tar", {f"a/{long}.jpeg": b, f"a/{long}.cls": b"0"})
    shard(root / "some-validation-0.tar", {"1.jpg": c, "1.cls": b"1", "0.jpg": d, "0.cls": b"0"})
    manifest = build_manifest(root, 1)
    assert [manifest.train.keys[i] for i in range(2)] == [f"a/{long}", "z/1"]  # pyright: ignore[reportOptionalSubscript]
    assert manifest.train.labels.tolist() == [0, 1] and manifest.val.labels.tolist() == [0, 1]
    assert manifest.train.checksums.tolist() == [zlib.crc32(b), zlib.crc32(a)]
    assert manifest.classes == ("0", "1") and manifest.val.checksums[0] == zlib.crc32(d)


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "x.tar", "train/ant.tar"])
def test_a_tar_left_beside_the_class_folders_hides_no_tree(own_tree: Path, manifest: Manifest, name: str):
    shard(own_tree / name, {"a.jpg": b"x", "a.cls": b"1"})
    for _ in range(2):  # when the manifest is made, and when it is there
        assert open_manifest(own_tree, None, ALONE)[0].digest() == manifest.digest()
    for part in ("train", "val"):
        shutil.rmtree(own_tree / part / "bee")
        (own_tree / part / "bee").mkdir()
    (own_tree / "manifest.npz").unlink()
    with pytest.raises(ValueError, match="bee holds no image"):
        open_manifest(own_tree, None, ALONE)


def test_shards_lie_in_folders_of_their_parts_too(tmp_path: Path):
    """The name's whole words say the part, then the folder's: interval is not val, and constrained not train."""
    content = {"a.jpg": jpeg(0, tmp_path / "j"), "a.cls": b"0"}
    root = tmp_path / "root"
    for name in ("train/interval-0.tar", "val/constrained-0.tar", "val/cub_valid0.tar", "Training_01.tar"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shard(root / name, {f"{name[:7]}{key}": value for key, value in content.items()})
    listing = list_data(root)
    assert {entry.file for entry in listing.entries["train"]} == {"train/interval-0.tar", "Training_01.tar"}
    assert {entry.file for entry in listing.entries["val"]} == {"val/constrained-0.tar", "val/cub_valid0.tar"}


def test_a_mask_beside_an_image_is_not_taken_for_it(tmp_path: Path):
    image, mask = jpeg(0, tmp_path / "j"), jpeg(1, tmp_path / "j")
    for part in ("train", "val"):
        shard(tmp_path / f"{part}.tar", {"i.jpg": image, "i.seg.png": mask, "i.cls": b"0"})
    manifest = build_manifest(tmp_path, 1)
    assert manifest.train.checksums.tolist() == manifest.val.checksums.tolist() == [zlib.crc32(image)]


def test_a_key_may_come_again_in_another_shard(tmp_path: Path):
    contents = [jpeg(number, tmp_path / "j") for number in range(3)]
    for name, content in zip(("train-0.tar", "train-1.tar", "val.tar"), contents, strict=True):
        shard(tmp_path / name, {"0.jpg": content, "0.cls": b"0"})
    assert build_manifest(tmp_path, 1).train.checksums.tolist() == [zlib.crc32(content) for content in contents[:2]]


def twice(root: Path, *names: str) -> None:
    """The files of a sample, once and once more, in one shard."""
    with tarfile.open(root / "train.tar", "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, BytesIO(b"1"))


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


REFUSED = {
    "no folder": (lambda root: root.rename(root.with_name("gone")), "imagenet does not exist; expected a folder"),
    "no val": (lambda root: (root / "val").rename(root / "validation"), "has no val/; expected val/CLASS/"),
    "no train": (lambda root: (root / "train").rename(root / "t"), "has no train/; expected train/CLASS/"),
    "class in train only": (
        lambda root: (root / "val/cat").rename(root / "cat"),
        "'cat' is in .*train and not in",
    ),
    "class in val only": (lambda root: (root / "train/ant").rename(root / "a"), "'ant' is in .*val and not in"),
    "no image of a class": (lambda root: empty(root / "val/bee"), "val/bee holds no image"),
}
REFUSED_SHARDS = {
    "shard of no part": (lambda root: shard(root / "x.tar", {}), "x.tar: expected train or val in its name"),
    "no val shard": (
        lambda root: shard(root / "train.tar", {"a.jpg": b"x", "a.cls": b"1"}),
        "none with val in its name",
    ),
    "no label": (lambda root: shard(root / "train.tar", {"a.jpg": b"x"}), "'a' has an image and no label"),
    "no image": (lambda root: shard(root / "train.tar", {"a.cls": b"1"}), "'a' has a label and no image"),
    "a key on two lines": (lambda root: shard(root / "train.tar", {"a\nb.jpg": b"x"}), r"'a\\nb' has an image and no"),
    "a label of such a key": (lambda root: shard(root / "train.tar", {"a\nb.cls": b"x"}), r"'a\\nb.cls' holds b'x'"),
    "label in words": (lambda root: shard(root / "train.tar", {"a.cls": b"dog"}), "holds b'dog'; expected the number"),
    "key twice": (
        lambda root: twice(root, "a/k.jpg", "a/k.cls", "a/k.jpg"),
        "train.tar: 'a/k' has a second image; give",
    ),
    "two images": (lambda root: twice(root, "k.jpg", "k.png", "k.cls"), "train.tar: 'k' has a second image; give"),
    "two labels": (
        lambda root: twice(root, "k.cls", "k.jpg", "k.cls"),
        r"train.tar: 'k' has a second label \(.cls\); give",
    ),
    "names in Latin-1": (
        lambda root: [
            (root / "classes.txt").write_bytes("Bär\n".encode("latin-1")),
            *(shard(root / f"{part}.tar", {"a.jpg": b"x", "a.cls": b"0"}) for part in ("train", "val")),
        ],
        "classes.txt is not UTF-8 .*the classes' names, one a line",
    ),
    "no tar": (lambda root: (root / "train.tar").write_bytes(b"x" * 2000), "train.tar can't be read as a tar"),
}
REFUSED |= REFUSED_SHARDS


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_is_not_laid_out_as_expected_is_refused_in_one_line(own_tree: Path, case: str):
    spoil, message = REFUSED[case]
    if case in REFUSED_SHARDS:
        for part in ("train", "val"):
            shutil.rmtree(own_tree / part)
    spoil(own_tree)
    with pytest.raises(ValueError, match=message) as refusal:
        open_imagenet(ImageNetDataConfig(data=own_tree, batch_size=2), 0, ALONE)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("fault", ["cut", "header"])
def test_a_shard_that_is_cut_or_has_a_damaged_header_is_refused(tmp_path: Path, fault: str):
    images = {
        f"{i}.{kind}": jpeg(i, tmp_path / "j") if kind == "jpg" else b"0" for i in range(3) for kind in ("jpg", "cls")
    }
    path = tmp_path / "train.tar"
    shard(path, images)
    content = bytearray(path.read_bytes())
    place = content.index(b"2.jpg")
    if fault == "cut":
        content = content[: place + 700]
    else:
        content[place + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train.tar (can't be read as a tar|is damaged at byte).*again"):
        build_manifest(tmp_path, 1)


def test_a_refused_data_folder_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="val"):
        open_manifest(tmp_path, None, World(torch.device("cpu")))
    assert sorted(tmp_path.rglob("*")) == before


def test_fewer_images_than_the_processes_take_are_refused(own_tree: Path):
    with pytest.raises(ValueError, match=r"--batch_size 28 on 1 processes takes 28 images per step; only 27 are there"):
        open_imagenet(ImageNetDataConfig(data=own_tree, batch_size=28), 0, ALONE)


def test_dali_that_is_not_installed_is_refused_with_a_hint(own_tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "nvidia.dali", None)
    with pytest.raises(ValueError, match=r"needs .*pip install 'darts_hpc\[dali\]', or take --loader torch"):
        open_imagenet(ImageNetDataConfig(data=own_tree, batch_size=2), 0, ALONE)


def test_a_gpu_decoder_without_a_gpu_is_refused(own_tree: Path):
    with pytest.raises(ValueError, match=r"--decode gpu needs a GPU"):
        open_imagenet(ImageNetDataConfig(data=own_tree, batch_size=2, decode="gpu"), 0, ALONE)


def test_a_damaged_image_is_named_in_one_line_whatever_its_name():
    assert str(manifest_module.Damaged("train.tar:a\nb", "empty")) == r"'train.tar:a\nb' (empty)"
