"""The rows of docs/faults.md name tests that there are; those of them that need nothing else are here."""

import os
import re
import signal
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from attempts import attempt
from damage import signal_at_batch
from ranks import on_ranks
from things import make_images
from torch.distributed.distributed_c10d import _set_pg_timeout

from darts_hpc.distributed.error_channel import ErrorChannel
from darts_hpc.distributed.world import World

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE)
TINY = ("--image_size", "4", "--init_channels", "4", "--layers", "3", "--arch", "DARTS_V1", "--device", "cpu")
TINY += ("--report_freq", "1", "--no-tensorboard", "--memory_check", "off")


def test_the_page_has_the_24_rows_of_the_matrix():
    assert [int(number) for number, _ in ROWS] == list(range(1, 25))


@pytest.mark.parametrize(("number", "tests"), ROWS, ids=[f"row {number}" for number, _ in ROWS])
def test_each_row_names_tests_that_there_are(number: str, tests: str):
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()


@pytest.fixture
def folder_run(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A training on images of one's own that was stopped in its second epoch; how to go on with it."""
    make_images(tmp_path / "images")
    data = ("--dataset", "folder", "--data", f"{tmp_path}/images", "--batch_size", "2", "--epochs", "2")
    command = ("train", *TINY, *data, "--save", f"{tmp_path}/run/", "--resume", "auto")
    done = attempt(command, tmp_path, before=partial(signal_at_batch, 9, signal.SIGTERM), runs=True)
    assert done.code == 128 + signal.SIGTERM, done.said
    yield command


def test_a_data_set_that_changed_under_a_checkpoint_is_refused(folder_run, tmp_path: Path):
    image = tmp_path / "images" / "train" / "cat" / "1.png"
    image.write_bytes((tmp_path / "images" / "train" / "dog" / "1.png").read_bytes())
    done = attempt(folder_run, tmp_path, runs=True)
    assert done.code == 2 and "data_digest: " in done.refusals[0] and not (tmp_path / "run" / "result.json").exists()


def test_a_stop_before_a_step_asks_for_no_requeue_a_stop_after_one_does(tmp_path: Path):
    """Else a job that gets no further is queued for ever. 5 steps of training, then 2 batches of the test."""
    marker = {"DARTS_HPC_REQUEUE_FILE": str(tmp_path / "requeue"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    data = ("--dataset", "digits", "--batch_size", "240", "--epochs", "1")
    command = ("train", *TINY, *data, "--save", f"{tmp_path}/run/", "--resume", "auto")
    for asks in (True, False):
        batch = 6 if asks else 1  # the first batch of the test both times
        before = partial(signal_at_batch, batch, signal.SIGUSR1)
        done = attempt(command, tmp_path, before=before, runs=True, environment=marker)
        assert done.code == 128 + signal.SIGUSR1 and (tmp_path / "requeue").exists() == asks, done.said
        assert asks or "no requeue asked for, because not a step was done" in done.said
        (tmp_path / "requeue").unlink(missing_ok=True)


def wait_for_one_that_hangs(folder: Path) -> None:
    """Let rank 2 stop in mid-run, and the others wait for it in a collective, for a second."""
    rank, silent_ranks = os.environ["RANK"], ErrorChannel.silent_ranks

    def patient(self: ErrorChannel) -> str:
        self.store.set(f"failed/{rank}", "")
        self.store.wait(["failed/0", "failed/1"])  # a busy machine may have left one of them behind
        return silent_ranks(self)

    ErrorChannel.silent_ranks = patient
    try:
        with World.open("cpu") as world:
            world.barrier()
            if rank == "2":
                (folder / "pid").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
            warnings.simplefilter("ignore", FutureWarning)  # it has another name in new versions
            _set_pg_timeout(timedelta(seconds=1))
            world.sum(torch.ones(1))
    except RuntimeError as error:
        (folder / f"rank{rank}").write_text("\n".join(error.__notes__))
        deadline = time.monotonic() + 120
        while rank == "0" and not (folder / "rank1").exists() and time.monotonic() < deadline:  # it asks rank 0's store
            time.sleep(0.05)
        if rank == "0":
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)  # as its launcher does


def test_a_rank_that_hangs_is_waited_for_no_longer_than_the_time_limit_and_named(tmp_path: Path):
    with pytest.raises(AssertionError):  # as it was killed
        on_ranks(3, wait_for_one_that_hangs, tmp_path)
    assert all("no answer from rank 2," in (tmp_path / f"rank{rank}").read_text() for rank in (0, 1))
