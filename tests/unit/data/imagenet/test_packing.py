"""Packing: plain tars that others read, the same samples from them as from the tree, and kills at any point."""

import shutil
import signal
import tarfile
from pathlib import Path

import pytest
import torch
from small_imagenet import make_tree, open_loader, pack_small, signature, started

from darts_hpc.commands import pack as pack_command
from darts_hpc.commands import stage as stage_command
from darts_hpc.config.pack import PackConfig
from darts_hpc.config.stage import StageConfig
from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.manifest import Manifest, load_manifest
from darts_hpc.data.imagenet.list.open_manifest import open_manifest
from darts_hpc.data.imagenet.prepare.packing import pack
from darts_hpc.distributed.world import World

ALONE = World(torch.device("cpu"))
FLAGS = {"shard_bytes": 9_000, "seed": 1, "num_threads": 2}


@pytest.fixture(scope="module")
def packed(tree: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    destination = tmp_path_factory.mktemp("packed")
    assert pack(tree, manifest, destination, **FLAGS) > 4
    return destination


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".tar"}


def test_a_plain_tar_reader_finds_each_image_and_label_once(tree: Path, manifest: Manifest, packed: Path):
    for name, part in (("train", manifest.train), ("val", manifest.val)):
        files = {}
        for shard in packed.glob(f"{name}-*.tar"):
            with tarfile.open(shard) as tar:
                members = tar.getmembers()
                assert [m.name.split(".")[1] for m in members] == ["jpg", "cls"] * (len(members) // 2)
                for member in members:
                    extracted = tar.extractfile(member)
                    assert extracted is not None and member.name not in files
                    files[member.name] = extracted.read()
        assert len(files) == 2 * len(part)
        for i in range(len(part)):
            assert files[f"{i:08}.jpg"] == (tree / part.name(i)).read_bytes()
            assert int(files[f"{i:08}.cls"]) == part.labels[i]
    assert (packed / "classes.txt").read_text().split() == ["ant", "bee", "cat"]


def test_images_lie_shuffled_over_the_shards(manifest: Manifest, packed: Path):
    order = load_manifest(packed / "manifest.npz").train
    by_place = sorted(range(len(order)), key=lambda i: (order.files[i], order.offsets[i]))
    assert by_place != list(range(len(order))) and len({order.labels[i] for i in by_place[:8]}) > 1


@pytest.mark.parametrize("index", ["kept", "lost"])
def test_shards_give_the_samples_of_the_tree(tree, manifest, packed, tmp_path: Path, index: str):
    shutil.copytree(packed, tmp_path / "copy")
    if index == "lost":  # as of a tar made elsewhere: the tars are scanned
        (tmp_path / "copy" / "manifest.npz").unlink()
    shards, _ = open_manifest(tmp_path / "copy", None, ALONE)
    assert shards.digest() == manifest.digest() and shards.classes == manifest.classes
    for part in ("train", "val"):
        from_shards = signature(open_loader(tmp_path / "copy", shards, part, threads=3).batches(1))
        assert from_shards == signature(open_loader(tree, manifest, part).batches(1))


def test_shards_can_be_packed_again(packed: Path, manifest: Manifest, tmp_path: Path):
    again = load_manifest(packed / "manifest.npz")
    pack(packed, again, tmp_path, shard_bytes=50_000, seed=2, num_threads=1)
    assert build_manifest(tmp_path, 1).digest() == manifest.digest()


def test_packing_goes_on_after_kill_9_to_the_same_bytes(tree, manifest, packed, tmp_path: Path):
    for shard in ("train-000000.tar", "train-000002.tar", "val-000000.tar"):
        wait = started(pack_small, tree, manifest, tmp_path, failpoint=f"before_rename:{shard}")
        assert wait() == -signal.SIGKILL
        assert not (tmp_path / "manifest.npz").exists() and not (tmp_path / shard).exists()
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    assert len(written) >= 3
    pack_small(tree, manifest, tmp_path)
    assert contents(tmp_path) == contents(packed)
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in written.items())  # not written again
    assert not list(tmp_path.glob(".*.writing"))


def test_a_flipped_bit_in_an_interrupted_pack_is_found_and_mended(tree, manifest, packed, tmp_path: Path):
    shutil.copytree(packed, tmp_path / "half")
    (tmp_path / "half" / "manifest.npz").unlink()
    shard = tmp_path / "half" / "train-000001.tar"
    damaged = bytearray(shard.read_bytes())
    damaged[700] ^= 16
    shard.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"1 images did not read back, such as train-000001.tar:.*run the same"):
        pack(tree, manifest, tmp_path / "half", **FLAGS)
    assert not (tmp_path / "half" / "manifest.npz").exists()
    pack(tree, manifest, tmp_path / "half", **FLAGS)
    assert contents(tmp_path / "half") == contents(packed)


def test_a_folder_with_something_else_in_it_is_refused(tree, manifest, packed, tmp_path: Path):
    with pytest.raises(ValueError, match="a pack of other images"):
        pack(tree, manifest, packed, shard_bytes=9_000, seed=2, num_threads=1)
    (tmp_path / "mine.tar").touch()
    with pytest.raises(ValueError, match=r"holds mine.tar already; choose another folder"):
        pack(tree, manifest, tmp_path, **FLAGS)


def names(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def a_file(root: Path) -> None:
    (root / "notes.txt").touch()


def a_folder_of_names(root: Path) -> None:
    (root / "pack.json").write_text("{}")
    (root / "classes.txt").mkdir()


@pytest.mark.parametrize(
    "make", [a_file, a_folder_of_names, lambda root: (root / "train-1.tar").symlink_to("elsewhere")]
)
def test_a_folder_with_others_files_is_refused_before_anything_is_read_or_written(own_tree: Path, tmp_path, make):
    (tmp_path / "there").mkdir()
    make(tmp_path / "there")
    before = names(tmp_path)
    with pytest.raises(ValueError, match=r"holds (notes|classes|train-1)\.t.. already; choose another folder"):
        pack_command.main(PackConfig(source=own_tree, destination=tmp_path / "there"))
    assert names(tmp_path) == before


@pytest.mark.parametrize("command", ["pack", "stage"])
@pytest.mark.parametrize("place", ["", ".", "train", "new/deeper", "../link", "../link/new", "..", "../.."])
def test_the_source_is_no_destination_whatever_leads_there(own_tree: Path, command: str, place: str):
    (own_tree.parent / "link").symlink_to(own_tree)
    before = names(own_tree.parent)
    main, cls = {"pack": (pack_command.main, PackConfig), "stage": (stage_command.main, StageConfig)}[command]
    with pytest.raises(ValueError, match=r"(is|lies in|holds) the source.*; choose a folder (outside of it|for the)"):
        main(cls(source=own_tree, destination=own_tree / place))
    assert names(own_tree.parent) == before


def test_a_damaged_plan_is_refused(tree, manifest, tmp_path: Path):
    (tmp_path / "pack.json").write_bytes(b'{"digest": "\xff')
    with pytest.raises(ValueError, match=r"pack.json is damaged; empty .*, or choose another folder"):
        pack(tree, manifest, tmp_path, **FLAGS)
    assert [path.name for path in tmp_path.iterdir()] == ["pack.json"]


def test_an_image_that_changed_while_packing_stops_it(tmp_path: Path):
    tree = make_tree(tmp_path / "tree")
    manifest = build_manifest(tree, 1)
    victim = tree / manifest.train.name(3)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{victim.name} was damaged while packing"):
        pack(tree, manifest, tmp_path / "packed", **FLAGS)
    assert not (tmp_path / "packed" / "manifest.npz").exists()
