"""Staging: a verified copy, made once, never used before it is whole."""

import signal
from pathlib import Path

import pytest
import torch
from small_imagenet import open_loader, signature, stage_small, started

from darts_hpc.data.imagenet import staging
from darts_hpc.data.imagenet.manifest import Manifest
from darts_hpc.data.imagenet.open_manifest import open_manifest
from darts_hpc.data.imagenet.staging import stage
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


def test_a_disk_without_room_is_refused_before_anything_is_copied(tree, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: Usage())
    with pytest.raises(ValueError, match=r"has 0.0 GB free, and staging .* takes"):
        stage(tree, manifest, tmp_path, 1)
    assert not list(tmp_path.rglob("*.JPEG"))


class Usage:
    free = 1000
