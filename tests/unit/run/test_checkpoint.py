"""Checkpoints under real faults: kill -9 at every point, flipped bits, truncation, deletion, a full disk."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from full_disk import files_up_to

from darts_hpc.run import checkpoint
from darts_hpc.run.checkpoint import (
    CheckpointStore,
    read_checkpoint,
    save_atomically,
    write_text_atomically,
)

FINGERPRINT = {"layers": 8, "seed": 2}
FILES = ["state.pt", "rank0.pt", "manifest.json"]


def payloads(step: int) -> dict:
    draw = torch.Generator().manual_seed(step)
    state = {"weight": torch.randn(50, 50, generator=draw), "position": {"epoch": step, "step": 0}, "best": {}}
    return {"state": state, "rank0": {"rng": torch.arange(step + 5)}}


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in (1, 2):
        store.save(step, payloads(step), FINGERPRINT)
    return store


def assert_is(checkpoint, step: int) -> None:
    assert checkpoint is not None and checkpoint.step == step and checkpoint.fingerprint == FINGERPRINT
    assert torch.equal(checkpoint.load("state")["weight"], payloads(step)["state"]["weight"])
    assert torch.equal(checkpoint.load("rank0")["rng"], payloads(step)["rank0"]["rng"])


def test_the_newest_is_loaded_whole_and_only_the_newest_two_are_kept(store):
    assert_is(store.load_newest(), 2)
    store.save(3, payloads(3), FINGERPRINT)
    assert [path.name for path in sorted(store.folder.glob("step-*"))] == ["step-00000002", "step-00000003"]
    assert (store.folder / "latest").read_text() == "step-00000003\n"


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    assert CheckpointStore(tmp_path / "none").load_newest() is None


def test_saving_a_step_again_replaces_it(store):
    store.save(2, payloads(7), FINGERPRINT)
    assert torch.equal(store.load_newest().load("state")["weight"], payloads(7)["state"]["weight"])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("fault", ["flip first", "flip middle", "flip last", "truncate", "empty", "delete"])
def test_any_damage_to_any_file_is_found_and_the_one_before_is_used(store, file, fault, caplog):
    path = store.folder / "step-00000002" / file
    content = bytearray(path.read_bytes())
    if fault == "delete":
        path.unlink()
    else:
        if fault == "truncate":
            del content[len(content) // 2 :]
        elif fault == "empty":
            content.clear()
        else:
            content[{"first": 0, "middle": len(content) // 2, "last": -1}[fault.split()[1]]] ^= 1
        path.write_bytes(content)
    assert_is(store.load_newest(), 1)
    assert "step-00000002 is damaged" in caplog.text and file in caplog.text


def test_when_all_are_damaged_that_is_said_and_nothing_is_loaded(store):
    for path in store.folder.glob("step-*/state.pt"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="every checkpoint in"):
        store.load_newest()


SAVE_AND_DIE = """
import sys, torch
from pathlib import Path
from darts_hpc.run.checkpoint import CheckpointStore
payloads = {"state": {"weight": torch.zeros(9)}, "rank0": {}}
CheckpointStore(Path(sys.argv[1])).save(int(sys.argv[2]), payloads, {"layers": 8, "seed": 2})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "newest"),
    [("after_file", 2), ("before_manifest", 2), ("before_rename", 2), ("before_pointer", 3), ("after_pointer", 3)],
)
def test_kill_9_at_any_point_of_a_save_leaves_a_whole_newest(store, point, newest):
    environment = {**os.environ, "DARTS_HPC_FAILPOINT": point}
    done = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, store.folder, "3"], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    checkpoint = store.load_newest()
    assert checkpoint is not None and checkpoint.step == newest
    store.save(4, payloads(4), FINGERPRINT)
    assert_is(store.load_newest(), 4)
    assert not list(store.folder.glob(".writing-*"))


def test_kill_9_while_a_step_is_saved_again_leaves_its_first_checkpoint(store):
    environment = {**os.environ, "DARTS_HPC_FAILPOINT": "between_renames"}
    done = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, store.folder, "2"], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert_is(CheckpointStore(store.folder).load_newest(), 2)


def test_a_run_that_went_back_behind_damaged_checkpoints_keeps_what_it_saves(store):
    for step in (5, 6):
        store.save(step, payloads(step), FINGERPRINT)
    store.keep = 3
    store.save(3, payloads(3), FINGERPRINT)  # 5 and 6 were damaged, so the run went on from 2 or earlier
    assert_is(store.load_newest(), 3)
    assert not [path for path in store.folder.glob("step-*") if path.name > "step-00000003"]


def test_a_rename_that_fails_leaves_the_checkpoint_it_would_have_replaced(store, monkeypatch):
    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".writing-"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        store.save(2, payloads(7), FINGERPRINT)
    assert_is(store.load_newest(), 2)


@pytest.mark.parametrize("content", ["[]", "1", "{}", '{"files": {}}', "{"])
def test_a_manifest_of_another_shape_is_damage(store, content):
    (store.folder / "step-00000002" / "manifest.json").write_text(content)
    assert_is(store.load_newest(), 1)


def test_a_file_in_the_place_of_another_is_damage(store, caplog):
    """Such as one rank's state in the place of another's: both are whole."""
    folder = store.folder / "step-00000002"
    (folder / "state.pt").rename(folder / "kept")
    (folder / "rank0.pt").rename(folder / "state.pt")
    (folder / "kept").rename(folder / "rank0.pt")
    assert_is(store.load_newest(), 1)
    assert "step-00000002 is damaged" in caplog.text


@pytest.mark.parametrize("name", ["../../secret", "/dev/zero", ".."])
def test_a_manifest_that_names_a_file_outside_of_its_checkpoint_is_damage(store, name, caplog):
    """Forged with its digest in order; /dev/zero would fill the memory."""
    folder = store.folder / "step-00000002"
    (store.folder.parent / "secret").write_bytes(b"theirs")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(b"theirs").hexdigest(), "bytes": 6}
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": checkpoint._digest(manifest)}))
    assert_is(store.load_newest(), 1)
    assert "expected a path inside its own folder" in caplog.text


def test_a_save_that_does_not_fit_raises_and_leaves_the_last_good_one(store):
    with files_up_to(8192), pytest.raises(OSError, match="large"):
        store.save(3, payloads(3), FINGERPRINT)
    assert_is(store.load_newest(), 2)
    assert not list(store.folder.glob(".writing-*"))


def test_a_single_file_that_does_not_fit_keeps_its_old_content(tmp_path):
    path = tmp_path / "weights.pt"
    save_atomically(path, {"a": torch.zeros(3)})
    with files_up_to(8192), pytest.raises(OSError, match="large"):
        save_atomically(path, {"a": torch.zeros(10000)})
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "result.json"
    write_text_atomically(path, "old")
    write_text_atomically(path, "new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_only_plain_data_is_loaded_never_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "made",))

    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, {"state": Payload()}, {})
    with pytest.raises(ValueError, match=r"state.pt is not as this version"):
        store.load_newest().load("state")  # pyright: ignore[reportOptionalMemberAccess]
    assert not (tmp_path / "made").exists()


def test_the_manifest_says_what_is_in_it(store):
    manifest = json.loads((store.folder / "step-00000002" / "manifest.json").read_text())
    assert manifest["step"] == 2 and manifest["fingerprint"] == FINGERPRINT
    assert set(manifest["files"]) == {"state.pt", "rank0.pt"}
    assert read_checkpoint(store.folder / "step-00000001").step == 1
