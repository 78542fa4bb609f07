"""A full /dev/shm, or too few open files, end a training whose loader needs them in one line, on every rank."""

import os
import resource
from pathlib import Path

import pytest
from namespaces import NEW_MOUNTS, mount, skip_without_namespaces, unshare
from ranks import forked, on_ranks
from run_entries import entry
from test_train_imagenet import NETWORK, make_photos

FLAGS = [
    "--loader",
    "torchvision",
    "--num_threads",
    1,
    "--prefetch",
    4,
    "--device",
    "cpu",
    *NETWORK,
    "--image_size",
    64,
    "--resize",
    64,
]
FLAGS += ["--batch_size", 8, "--valid_batch_size", 8, "--epochs", 1, "--report_freq", 1, "--no-tensorboard"]


def shrink_shared_memory(size: str) -> None:
    unshare(NEW_MOUNTS)
    mount("none", "/dev/shm", kind="tmpfs", options=f"size={size}")


@pytest.mark.parametrize(("size", "processes"), [("4k", 1), ("300k", 2)])  # two locks don't fit; a batch doesn't
def test_a_full_dev_shm_is_one_line_and_ends_all_ranks(size, processes, tmp_path: Path):
    skip_without_namespaces()
    photos = make_photos(tmp_path / "photos")
    flags = [*FLAGS, "--data", photos, "--save", tmp_path / "run"]

    def rank() -> None:
        ended = entry("train_imagenet", *flags)
        (tmp_path / f"said{os.environ['RANK']}").write_text(ended.stderr)
        os._exit(ended.returncode)

    def machine() -> None:
        shrink_shared_memory(size)
        on_ranks(processes, rank, status=2)

    done = forked(machine)
    assert done.returncode == 0, done.stderr
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("said*")))
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "/dev/shm, through which --loader torchvision" in errors[0], said
    assert "Traceback" not in said


@pytest.mark.parametrize("limit", [20, 24, 28, 32])  # in the first loader, or in its workers
def test_too_few_open_files_are_one_line(limit: int, tmp_path: Path):
    photos = make_photos(tmp_path / "photos")

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    done = entry("train_imagenet", *FLAGS, "--data", photos, "--save", tmp_path / "run", before=lower)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr
    assert [("open files" in line) for line in errors] == [True] * bool(done.returncode), done.stderr
