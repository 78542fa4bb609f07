"""A full /dev/shm ends a training whose loader needs it in one line, on every rank."""

import os
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
