"""Staging: a verified copy, made once, never used before it is whole."""

import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_imagenet import make_tree, open_loader, pack_small, save_jpeg, signature, stage_small, started

from darts_hpc import stage as stage_entry
from darts_hpc.config.stage import StageConfig
from darts_hpc.data.imagenet.list import manifest as manifest_module
from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.manifest import Manifest, save_manifest
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.data.imagenet.list.packed_strings import PackedStrings
from darts_hpc.data.imagenet.prepare import staging
from darts_hpc.data.imagenet.prepare.staging import stage
from darts_hpc.distributed.world import World

ALONE = World(torch.device("cpu"))


def test_the_copy_gives_the_same_samples_and_is_made_once(tree: Path, manifest: Manifest, tmp_path: Path):
    assert stage(tree, manifest, tmp_path, 2)
    staged, _ = open_manifest(tmp_path, None, ALONE)
    ours, theirs = (open_loader(root, m) for root, m in ((tmp_path, staged), (tree, manifest)))
    assert signature(ours.batches(0)) == signature(theirs.batches(0))
    assert not stage(tree, manifest, tmp_path, 2)


def test_processes_that_ask_at_once_copy_once(tree, manifest, tmp_path: Path):
    asking = [started(stage_small, tree, manifest, tmp_path) for _ in range(4)]
    assert sorted(wait() or 0 for wait in asking) == [0, 0, 0, 1]  # one found something to do


def test_a_killed_copy_is_refused_and_then_finished(tree, manifest, tmp_path: Path):
    victim = Path(manifest.val.name(2)).name
    wait = started(stage_small, tree, manifest, tmp_path, failpoint=f"while_staging:{victim}")
    assert wait() == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.JPEG"))) > 20
    with pytest.raises(ValueError, match=r"half copied; run python -m darts_hpc.stage again"):
        open_manifest(tmp_path, None, ALONE)
    assert stage(tree, manifest, tmp_path, 1)
    assert open_manifest(tmp_path, None, ALONE)[0].digest() == manifest.digest()


def test_a_copy_with_a_flipped_bit_is_not_used(tree, manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    victim = tmp_path / manifest.train.name(5)
    copy = staging._copy

    def copy_with_a_flip(source: Path, destination: Path) -> None:
        copy(source, destination)
        if destination == victim:
            content = bytearray(destination.read_bytes())
            content[50] ^= 1
            destination.write_bytes(content)

    monkeypatch.setattr(staging, "_copy", copy_with_a_flip)
    with pytest.raises(ValueError, match=rf"1 staged images .* such as {manifest.train.name(5)} \(its checksum"):
        stage(tree, manifest, tmp_path, 1)
    with pytest.raises(ValueError, match="half copied"):
        open_manifest(tmp_path, None, ALONE)
    monkeypatch.setattr(staging, "_copy", copy)
    assert stage(tree, manifest, tmp_path, 1)


def test_an_image_that_is_gone_or_other_images_are_staged_again(tree, manifest, tmp_path: Path):
    stage(tree, manifest, tmp_path, 1)
    (tmp_path / manifest.train.name(0)).unlink()
    assert stage(tree, manifest, tmp_path, 1)
    assert (tmp_path / manifest.train.name(0)).is_file()


def images(folder: Path) -> set[str]:
    """The images and shards under a folder, links to nowhere among them."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".JPEG", ".tar")}


@pytest.mark.parametrize("killed", [False, True])
def test_a_renamed_image_and_a_class_that_is_gone_do_not_stay_in_the_copy(own_tree: Path, tmp_path: Path, killed: bool):
    there = tmp_path / "there"
    stage(own_tree, build_manifest(own_tree, 1), there, 1)
    (there / "train" / "notes.txt").touch()
    (own_tree / "train/ant/train_000.JPEG").rename(own_tree / "train/ant/renamed.JPEG")
    for part in ("train", "val"):
        (own_tree / part / "bee").rename(own_tree / part / "wasp")
    manifest = build_manifest(own_tree, 1)
    if killed:
        wait = started(stage_small, own_tree, manifest, there, failpoint="while_staging:val_004.JPEG")
        assert wait() == -signal.SIGKILL
    assert stage(own_tree, manifest, there, 1) and images(there) == images(own_tree)
    assert not (there / "train/bee").exists() and (there / "train/notes.txt").exists()
    assert open_manifest(there, None, ALONE)[0].digest() == manifest.digest()
    assert not stage(own_tree, manifest, there, 1)
    (there / "manifest.npz").unlink()
    assert open_manifest(there, None, ALONE)[0].classes == ("ant", "cat", "wasp")


def test_shards_of_an_earlier_pack_do_not_stay_in_the_copy(own_tree: Path, tmp_path: Path):
    there = tmp_path / "there"
    for name in ("first", "second"):
        manifest = build_manifest(own_tree, 1)
        pack_small(own_tree, manifest, tmp_path / name)
        stage(tmp_path / name, build_manifest(tmp_path / name, 1), there, 1)
        assert images(there) == images(tmp_path / name)
        for image in sorted(own_tree.glob("train/*/*"))[3:]:  # fewer, so fewer shards
            image.unlink() if image.name > "train_002.JPEG" else None
    assert open_manifest(there, None, ALONE)[0].digest() == manifest.digest()


def test_what_training_leaves_out_is_not_copied(own_tree: Path, tmp_path: Path):
    """A link to nowhere, a file that can't be opened, and one that is no image."""
    dangling, unreadable, text = sorted((own_tree / "train" / "cat").iterdir())[:3]
    for path in (dangling, unreadable):
        path.unlink()
    dangling.symlink_to("nowhere")
    os.mknod(unreadable, stat.S_IFSOCK | 0o600)
    text.write_text("404")
    manifest = build_manifest(own_tree, 1)
    assert len(manifest.damaged) == 3
    there = tmp_path / "there"
    assert stage(own_tree, manifest, there, 1)
    assert images(own_tree) - images(there) == {f"train/cat/{path.name}" for path in (dangling, unreadable, text)}
    staged, _ = open_manifest(there, None, ALONE)
    ours, theirs = (open_loader(root, m, limit=3) for root, m in ((there, staged), (own_tree, manifest)))
    assert signature(ours.batches(0)) == signature(theirs.batches(0))
    assert staged.damaged == manifest.damaged and not stage(own_tree, manifest, there, 1)


def test_images_that_no_staging_put_there_are_never_touched(tree, manifest, tmp_path: Path):
    theirs = make_tree(tmp_path / "theirs")
    for number, name in enumerate(("train/ant/mine.JPEG", "train/ant/train_000.JPEG")):  # a name that is ours, too
        save_jpeg(theirs / name, 900 + number)
        before = {path: path.read_bytes() for path in theirs.rglob("*.*")}
        with pytest.raises(ValueError, match=rf"holds images that no staging put there, such as {name}; choose"):
            stage(tree, manifest, theirs, 1)
        assert {path: path.read_bytes() for path in theirs.rglob("*.*")} == before
        (theirs / name).unlink()


def test_a_manifest_that_names_a_file_outside_writes_nothing_there(own_tree: Path, tmp_path: Path, monkeypatch):
    """Of a tree that is too large to be listed again, as that of 50,000 images is."""
    monkeypatch.setattr(manifest_module, "ALWAYS_LIST", 10)
    theirs, _ = open_manifest(own_tree, None, ALONE)
    target = tmp_path / "node" / "payload"
    target.parent.mkdir()
    target.write_text("mine")
    (own_tree.parent / "payload").write_text("theirs")
    names = PackedStrings.of(["../payload", *theirs.file_names[1:]])
    splits = {part: replace(getattr(theirs, part), file_names=names) for part in ("train", "val")}
    save_manifest(replace(theirs, file_names=names, **splits), own_tree / "manifest.npz")
    with pytest.raises(ValueError, match=r"names '\.\./payload'; expected a path inside its own folder"):
        stage_entry.main(StageConfig(source=own_tree, destination=target.parent / "there"))
    assert target.read_text() == "mine" and not (target.parent / "there").exists()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as /tmp is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_below_a_folder_for_everybody_the_copy_is_for_this_user_alone(tree, manifest, shared: Path):
    assert stage(tree, manifest, shared / "me" / "imagenet", 1)
    assert [stat.S_IMODE((shared / name).stat().st_mode) for name in ("me", "me/imagenet")] == [0o700, 0o700]
    assert not stage(tree, manifest, shared / "me" / "imagenet", 1)


@pytest.mark.parametrize(
    "trap", ["is a link", "is no folder", "belongs to another user", "may be written by everybody"]
)
def test_a_folder_that_somebody_else_was_quicker_to_make_is_refused(tree, manifest, shared: Path, trap: str):
    elsewhere = shared.parent / "elsewhere"
    elsewhere.mkdir()
    if trap == "is a link":
        (shared / "me").symlink_to(elsewhere)
    elif trap == "is no folder":
        (shared / "me").touch()
    else:
        (shared / "me").mkdir()
        if trap == "belongs to another user":
            if os.getuid() != 0:
                pytest.skip("only root can give a folder to another user")
            os.chown(shared / "me", 12345, 12345)
        else:
            (shared / "me").chmod(0o777)
    with pytest.raises(ValueError, match=rf"{trap}|can't stage .*File exists"):
        stage(tree, manifest, shared / "me" / "imagenet", 1)
    assert not list(elsewhere.iterdir()) and not list(shared.rglob("*.JPEG"))


@pytest.mark.parametrize("link", ["train", "train/ant", "train/ant/.train_000.JPEG.writing"])
def test_a_link_in_the_destination_leads_nothing_out_of_it(tree, manifest, tmp_path: Path, link: str):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = elsewhere if "." not in link else elsewhere / "file"
    (there / link).parent.mkdir(parents=True)
    (there / link).symlink_to(target)
    if target == elsewhere:
        with pytest.raises(ValueError, match=r"leads to .*elsewhere.*outside of .*there; remove that link"):
            stage(tree, manifest, there, 1)
    else:
        assert stage(tree, manifest, there, 1)
    assert not list(elsewhere.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_copied(tree, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: Usage())
    with pytest.raises(ValueError, match=r"has [01] KiB free, and staging .* takes"):
        stage(tree, manifest, tmp_path, 1)
    assert not list(tmp_path.rglob("*.JPEG"))


class Usage:
    free = 1000
