"""Damaged images are named and left out, every other image comes exactly once, and over the limit the run stops."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from ranks import on_ranks
from small_imagenet import NUM_TRAIN, NUM_VALID, joined, open_loader, signature, started

from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.data.imagenet.list import inspect as inspect_module
from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.manifest import Damaged, Split
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.imagenet.load import open_imagenet
from darts_hpc.data.imagenet.prepare.packing import pack
from darts_hpc.data.imagenet.read import dali as dali_module
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.torchvision_loader import TorchvisionLoader
from darts_hpc.distributed.world import World

ALONE = World(torch.device("cpu"))


def flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0x10 for byte in content[middle : middle + 8])
    path.write_bytes(content)


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its last two bytes": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "empty": lambda path: path.write_bytes(b""),
    "html": lambda path: path.write_bytes(b"<!DOCTYPE html><html>404</html>"),
    "noise": lambda path: path.write_bytes(os.urandom(2000)),
    "missing": dangle,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "unreadable": loop,
}
LATER = {
    **DAMAGE,
    "removed": Path.unlink,
    "bits flipped": flip_bits,
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


def config(root: Path, limit: int) -> ImageNetDataConfig:
    return ImageNetDataConfig(data=root, batch_size=4, image_size=32, resize=36, num_threads=1, max_bad_images=limit)


def test_damage_is_found_when_the_manifest_is_made(own_tree: Path):
    files = sorted((own_tree / "train" / "bee").iterdir())
    for file, damage in zip(files, DAMAGE.values(), strict=False):
        damage(file)
    manifest = build_manifest(own_tree, 2)
    assert [one.name for one in manifest.damaged] == [str(f.relative_to(own_tree)) for f in files[: len(DAMAGE)]]
    assert len(manifest.train) == NUM_TRAIN - len(DAMAGE)
    reasons = " ".join(one.reason for one in manifest.damaged)
    assert all(word in reasons for word in ("truncated", "empty", "not an image: begins with b'<!DOCTYPE", "No such"))


def test_over_the_limit_it_stops_with_the_list_and_at_the_limit_it_trains(own_tree: Path, caplog):
    files = sorted((own_tree / "val" / "cat").iterdir())[:3]
    for file in files:
        file.write_bytes(b"")
    for _ in range(2):  # when the manifest is made, and when it is there
        with pytest.raises(ValueError, match="3 damaged images are more than --max_bad_images 2") as refusal:
            open_imagenet(config(own_tree, 2), 0, ALONE)
        assert all(file.name in str(refusal.value) for file in files) and "\n" not in str(refusal.value)
    caplog.clear()
    data = open_imagenet(config(own_tree, 3), 0, ALONE)
    assert all(file.name in caplog.text for file in files)
    assert len(data.train.batches(0).__next__().labels) == 4 and data.valid.num_samples == 10


@pytest.mark.parametrize("kind", ["dali", "torchvision"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_damage_after_that_leaves_out_the_image_and_nothing_else(own_tree: Path, caplog, kind: str, world_size: int):
    manifest = build_manifest(own_tree, 1)
    before = signature(open_loader(own_tree, manifest, "train", kind=kind).batches(2))
    keys = dict(zip(files_in_order(own_tree, manifest, 2), flat_keys(before), strict=True))
    victims = list(keys)[1 :: len(keys) // len(LATER)][: len(LATER)]
    for victim, damage in zip(victims, LATER.values(), strict=True):
        damage(victim)
    batch_size = 8 // world_size
    ranks = [
        open_loader(
            own_tree, manifest, kind=kind, batch_size=batch_size, rank=rank, world_size=world_size, limit=len(LATER)
        )
        for rank in range(world_size)
    ]
    lost = {keys[victim] for victim in victims}
    expected = [[image for image in step if image[0] not in lost] for step in before]
    for _ in range(2):  # it stays so, and is told once
        assert signature(joined(ranks, 2)) == expected
    assert all(caplog.text.count(victim.name) == 1 for victim in victims)
    assert "checksum has changed" in caplog.text and "or more instead of" in caplog.text


def flat_keys(steps: list) -> list[int]:
    return [key for step in steps for key, _, _ in step]


def files_in_order(root: Path, manifest, epoch: int) -> list[Path]:
    order = open_loader(root, manifest).samples.order
    ids = torch.cat([order.ids(epoch, step) for step in range(order.steps_per_epoch)])
    return [root / manifest.train.name(i) for i in ids.tolist()]


@pytest.mark.parametrize("kind", ["dali", "torchvision"])
def test_damage_beyond_the_limit_stops_the_run_with_the_list(own_tree: Path, kind: str):
    manifest = build_manifest(own_tree, 1)
    victims = files_in_order(own_tree, manifest, 0)[4:7]
    for victim in victims:
        flip_bits(victim)
    with pytest.raises(ValueError, match="3 damaged images are more than --max_bad_images 2") as refusal:
        signature(open_loader(own_tree, manifest, kind=kind, limit=2).batches(0))
    assert all(victim.name in str(refusal.value) for victim in victims)


def test_the_limit_holds_over_all_processes_and_over_restarts(own_tree: Path):
    manifest = build_manifest(own_tree, 1)
    for victim in (victims := files_in_order(own_tree, manifest, 0))[::8]:
        flip_bits(victim)  # one in each rank's half of the first batch would not reach the limit alone
    flip_bits(victims[4])
    ranks = [open_loader(own_tree, manifest, batch_size=4, rank=rank, world_size=2, limit=1) for rank in range(2)]
    next(ranks[0].batches(0, 2))
    with pytest.raises(ValueError, match="2 damaged images are more than --max_bad_images 1"):
        next(ranks[1].batches(0))


def test_an_image_that_was_mended_is_back_and_no_longer_counts(own_tree: Path):
    data = open_imagenet(config(own_tree, 1), 0, ALONE)
    victim = own_tree / "val" / "ant" / "val_000.JPEG"
    whole = victim.read_bytes()
    flip_bits(victim)
    assert sum(len(batch.labels) for batch in data.valid.batches(0)) == 12
    journal = own_tree / "manifest.damaged.jsonl"
    assert victim.name in journal.read_text()
    with pytest.raises(ValueError, match="1 damaged images are more than --max_bad_images 0"):
        open_imagenet(config(own_tree, 0), 0, ALONE)
    victim.write_bytes(whole)
    data = open_imagenet(config(own_tree, 0), 0, ALONE)
    assert sum(len(batch.labels) for batch in data.valid.batches(0)) == 13 and journal.read_text() == ""


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_that_was_damaged_from_the_start_is_back_once_it_is_whole(own_tree: Path, monkeypatch, packed: bool):
    """And the others are not read again."""
    root, whole = own_tree, build_manifest(own_tree, 1)
    if packed:
        root = own_tree.parent / "packed"
        pack(own_tree, whole, root, shard_bytes=9_000, seed=0, num_threads=1)
        (root / "manifest.npz").unlink()
    victim = root / ("val-000000.tar" if packed else whole.val.name(4))
    content = victim.read_bytes()
    victim.write_bytes(content.replace(b"\xff\xd8", b"\0\0", 1) if packed else b"")
    data = open_imagenet(config(root, 1), 0, ALONE)
    assert data.valid.num_samples == NUM_VALID - 1
    victim.write_bytes(content + (b"\0" * 10_240 if packed else b""))
    read, inspect = [], inspect_module._inspect
    monkeypatch.setattr(inspect_module, "_inspect", lambda root, entry: read.append(entry.file) or inspect(root, entry))
    again = open_imagenet(config(root, 0), 0, ALONE)
    assert again.valid.num_samples == NUM_VALID and again.digest == whole.digest()
    assert set(read) == {victim.relative_to(root).as_posix()}
    assert sum(len(batch.labels) for batch in again.valid.batches(0)) == NUM_VALID
    assert open_imagenet(config(root, 0), 0, ALONE).digest == whole.digest()


def test_a_damaged_image_may_be_removed_or_damaged_otherwise_and_no_other_file_may_change(own_tree: Path):
    victim = own_tree / "val/bee/val_004.JPEG"
    victim.write_bytes(b"")
    digest = open_imagenet(config(own_tree, 1), 0, ALONE).digest
    victim.write_bytes(b"<html>")
    assert open_imagenet(config(own_tree, 1), 0, ALONE).digest == digest
    victim.unlink()
    assert open_imagenet(config(own_tree, 0), 0, ALONE).digest == digest
    (own_tree / "val/bee/val_001.JPEG").unlink()
    with pytest.raises(ValueError, match=r"have changed since .*val_001.JPEG was of \d+ bytes and is absent"):
        open_imagenet(config(own_tree, 0), 0, ALONE)


@pytest.mark.parametrize("kind", ["dali", "torchvision"])
def test_a_disk_that_fails_ends_the_run_by_name_and_counts_no_damage(own_tree: Path, monkeypatch, kind: str):
    manifest = build_manifest(own_tree, 1)
    loader = open_loader(own_tree, manifest, kind=kind)
    monkeypatch.setattr(Samples, "read", read_with_fault)
    if isinstance(loader, TorchvisionLoader):  # what a worker would send
        loader._loader = [loader._loader._loader.dataset[0, 0]]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"^0.JPEG can't be read \(Input/output error\)$"):
        next(loader.batches(0))
    assert not (own_tree / "damaged.jsonl").exists()


def read_with_fault(samples: Samples, sample_id: int) -> bytes:
    raise ValueError("0.JPEG can't be read (Input/output error)")


def test_however_long_the_journal_the_names_are_gone_through_once(own_tree: Path, monkeypatch: pytest.MonkeyPatch):
    data = open_imagenet(config(own_tree, 20), 0, ALONE)
    for victim in sorted((own_tree / "val").rglob("*.JPEG")):
        flip_bits(victim)
    assert sum(len(batch.labels) for batch in data.valid.batches(0)) == 0
    name, asked = Split.name, []
    monkeypatch.setattr(Split, "name", lambda part, sample_id: asked.append(sample_id) or name(part, sample_id))
    open_imagenet(config(own_tree, 20), 0, ALONE)
    assert len((own_tree / "manifest.damaged.jsonl").read_text().splitlines()) == NUM_VALID
    assert len(asked) == NUM_TRAIN + NUM_VALID


def test_an_image_that_only_dali_cannot_decode_is_decoded_by_pillow(own_tree: Path, caplog, monkeypatch):
    """A GIF stands for it, which would be Pillow's from the start. Where that fails too it is left out."""
    caplog.set_level("INFO")
    monkeypatch.setattr(dali_module, "for_dali", lambda content: content)
    victim = files_in_order(own_tree, build_manifest(own_tree, 1), 0)[5]
    Image.new("P", (40, 40), 3).save(victim, format="GIF")
    manifest = build_manifest(own_tree, 1)
    assert not manifest.damaged
    reference = signature(open_loader(own_tree, manifest, kind="torchvision").batches(0))
    loader = open_loader(own_tree, manifest, limit=0)
    assert flat_keys(signature(loader.batches(0))) == flat_keys(reference)
    assert f"{victim.name} is left to Pillow, as DALI can't decode it: Error in CPU operator `nvidia" in caplog.text
    monkeypatch.setattr(dali_module, "as_png", lambda content: content)
    with pytest.raises(ValueError, match=rf"1 damaged images are more .*{victim.name}.*DALI can't decode it: Error"):
        signature(loader.batches(0))


def test_memory_that_ran_out_is_no_damage(tree: Path, tmp_path: Path):
    """Of a batch resized to 100,000 pixels, in a process that may take a few gigabytes."""
    assert started(resize_without_memory, tree, tmp_path)() == 0


def resize_without_memory(tree: Path, folder: Path) -> int:
    loader = open_loader(tree, build_manifest(tree, 1), "val", limit=100)
    loader.samples.resize, loader.samples.quarantine.journal = 100_000, folder / "damaged.jsonl"
    resource.setrlimit(resource.RLIMIT_AS, (30 << 30, 30 << 30))
    with pytest.raises(ValueError, match=r"^memory ran out .*bad_alloc.*; lower --resize, --batch_size") as refusal:
        next(loader.batches(0))
    assert "\n" not in str(refusal.value) and not loader.samples.quarantine.journal.exists()
    return 0


@pytest.mark.parametrize("line", [b'{"a": 1}', b"garbage", b"[1, 2]", b"\xff"])
def test_a_journal_that_lists_something_else_is_refused(tmp_path: Path, line: bytes):
    journal = tmp_path / "damaged.jsonl"
    journal.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"damaged.jsonl holds .*; expected a damaged image a line.*remove") as refusal:
        Quarantine(journal, 3).begin((), ())
    assert "\n" not in str(refusal.value) and journal.read_bytes() == line + b"\n"


def test_a_training_batch_without_any_image_stops_the_run(own_tree: Path):
    manifest = build_manifest(own_tree, 1)
    files_in_order(own_tree, manifest, 0)[0].unlink()
    with pytest.raises(ValueError, match="all 1 images of a training batch are damaged"):
        next(open_loader(own_tree, manifest, batch_size=1, limit=9).batches(0))


def left_out_by_two_nodes(folder: Path, limit: int) -> tuple[str, int]:
    """On each of two ranks with a disk of its own, leave out two images, one of them the same; join, twice."""
    world = World(torch.device("cpu"), rank=int(os.environ["RANK"]), size=2)
    torch.distributed.init_process_group("gloo")
    quarantine = Quarantine(folder / str(world.rank) / "damaged.jsonl", limit)
    quarantine.journal.parent.mkdir()
    for name in ("train/a/shared.jpg", f"train/a/{world.rank}.jpg"):
        quarantine.add(Damaged(name, "truncated"))
    said = ""
    try:
        for _ in range(2):
            quarantine.join(world)
    except ValueError as error:
        said = str(error)
    lines = quarantine.journal.read_text().splitlines()
    torch.distributed.destroy_process_group()
    return said, len(lines)


def test_nodes_with_the_data_on_disks_of_their_own_meet_the_limit_together(tmp_path: Path):
    (tmp_path / "at").mkdir()
    assert on_ranks(2, left_out_by_two_nodes, tmp_path / "at", 3) == [("", 3), ("", 2)]  # the main one lists all
    (tmp_path / "over").mkdir()
    said = [message for message, _ in on_ranks(2, left_out_by_two_nodes, tmp_path / "over", 2)]
    assert all("3 damaged images are more than --max_bad_images 2" in message for message in said)
    assert all(name in message for name in ("shared.jpg", "a/0.jpg", "a/1.jpg") for message in said)
