"""What becomes of a run whose disk is full, whose folder is immutable, and whose files are removed under it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_entries import entry, entry_killed_at_batch

from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.reporting.groups import group_runs
from darts_hpc.reporting.summary import to_markdown
from darts_hpc.run.reader import read_run

pytestmark = pytest.mark.slow
TRAIN = ("--config", "configs/train/tiny.yaml", "--device", "cpu", "--batch_size", 240, "--epochs", 2)
TRAIN += ("--arch", "DARTS_V1")  # what is said here of a run, a search shares, and takes five times as long


def disturbed(call: int, fault: Callable[[], object], *flags: object, **environment: str):
    """Run a training, in which the fault comes at the given call for a batch."""

    def count_batches() -> None:
        batch, calls = BatchSource.batch, [0]

        def counted(self, epoch, step):
            calls[0] += 1
            if calls[0] == call:
                fault()
            return batch(self, epoch, step)

        BatchSource.batch = counted

    return entry("train", *TRAIN, *flags, before=count_batches, **environment)


def reported(folder: Path) -> str:
    """What a report says of a run, without its charts, which take seconds."""
    return to_markdown(group_runs([read_run(folder)]))


def assert_one_line(done: subprocess.CompletedProcess, said: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(errors) == 1 and said in errors[0], done.stderr


@pytest.fixture(params=["16k", "128k"])
def small_disk(request, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is full after a few pages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_a_run_in_one_line(small_disk: Path):
    done = entry("train", *TRAIN, "--save", f"{small_disk}/run/")
    assert_one_line(done, "No space left on device")
    assert not (small_disk / "run" / "result.json").exists()


@pytest.mark.parametrize("small_disk", ["16k"], indirect=True)
def test_a_full_disk_loses_no_requeue(small_disk: Path, tmp_path: Path):
    marker = small_disk / "requeue-7"
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(16384))
    environment = {"KILL_SIGNAL": "SIGUSR1", "DARTS_HPC_REQUEUE_FILE": str(marker)}
    done = entry_killed_at_batch(5, "train", *TRAIN, "--save", f"{tmp_path}/run/", **environment)
    assert done.returncode == 128 + signal.SIGUSR1 and marker.exists(), done.stderr


def test_a_requeue_that_can_not_be_asked_for_is_said_of_a_run_that_is_saved(tmp_path: Path):
    (tmp_path / "file").touch()
    environment = {"KILL_SIGNAL": "SIGUSR1", "DARTS_HPC_REQUEUE_FILE": str(tmp_path / "file" / "requeue")}
    done = entry_killed_at_batch(5, "train", *TRAIN, "--save", f"{tmp_path}/run/", **environment)
    assert done.returncode == 128 + signal.SIGUSR1 and "Traceback" not in done.stderr
    assert "can't ask for a requeue" in done.stderr and any(tmp_path.glob("run/checkpoints/step-*"))


@pytest.mark.parametrize("fault", ["removed", "cut", "emptied"])
def test_records_that_are_lost_in_mid_run_leave_a_run_that_can_be_read(fault: str, tmp_path: Path):
    metrics = tmp_path / "run" / "metrics.jsonl"

    def lose() -> None:
        if fault == "removed":
            metrics.unlink()
        else:
            os.truncate(metrics, 0 if fault == "emptied" else metrics.stat().st_size - 7)

    done = disturbed(9, lose, "--save", f"{tmp_path}/run/")
    assert done.returncode == 0 and done.stderr.count("was cut or removed") == 1, done.stderr
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert lines and lines[-1]["event"] == "epoch" and lines[-1]["epoch"] == 1
    assert "finished" in reported(tmp_path / "run")


def test_a_run_folder_that_is_removed_in_mid_run_ends_it_and_stays_removed(tmp_path: Path):
    done = disturbed(9, lambda: shutil.rmtree(tmp_path / "run"), "--save", f"{tmp_path}/run/")
    assert_one_line(done, "was removed or moved while the run went on")
    assert not (tmp_path / "run").exists()


def test_files_of_a_run_that_are_removed_in_mid_run_are_there_at_its_end(tmp_path: Path):
    names = ("config.yaml", "environment.json", "command.txt", "log.rank0.txt")

    def remove() -> None:
        for name in names:
            (tmp_path / "run" / name).unlink()

    done = disturbed(9, remove, "--save", f"{tmp_path}/run/")
    assert done.returncode == 0 and all((tmp_path / "run" / name).read_text() for name in names), done.stderr
    assert "finished" in reported(tmp_path / "run")


def immutable(folder: Path, sign: str) -> bool:
    if shutil.which("chattr") is None:
        return False
    return subprocess.run(["chattr", f"{sign}i", folder], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("when", ["at the start", "in mid-run"])
def test_an_immutable_folder_ends_a_run_in_one_line(when: str, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    if not immutable(folder, "+"):
        pytest.skip("this file system knows no immutable folders, or not for this user")
    try:
        if when == "at the start":
            assert_one_line(entry("train", *TRAIN, "--save", f"{folder}/"), "can't write to the run folder")
        else:
            immutable(folder, "-")
            done = disturbed(9, lambda: immutable(folder, "+"), "--save", f"{folder}/")
            assert_one_line(done, "its result could not be written")
    finally:
        immutable(folder, "-")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("checkpoints", kind) for kind in ("file", "pipe", "loop", "dangling link")),
        *(("log.rank0.txt", kind) for kind in ("folder", "pipe", "loop")),
        *((name, kind) for name in ("config.yaml", "metrics.jsonl", "launch.json") for kind in ("folder", "pipe")),
    ],
)
def test_what_lies_in_the_place_of_a_runs_files_is_refused_at_the_start(name: str, kind: str, tmp_path: Path):
    path = tmp_path / "run" / name
    path.parent.mkdir()
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(name if kind == "loop" else "nowhere")
    done = entry("train", *TRAIN, "--save", f"{tmp_path}/run/")
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("error: ") == 1, done.stderr
    assert {each.name for each in path.parent.iterdir()} <= {name, ".lock"}
