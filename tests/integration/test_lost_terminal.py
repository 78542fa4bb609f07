"""A terminal that goes away costs its lines; a hang-up saves and stops, unless nohup has it ignored."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from holding import Hold
from run_entries import FEW, SINGLE_THREAD, TINY, entry, entry_killed_at_batch

pytestmark = pytest.mark.slow
TRAIN = (*TINY, *FEW, "--checkpoint_freq", "1", "--arch", "DARTS_V1")
LOCAL = Path("launch/local.sh").absolute()


def onto_full_disk() -> None:
    """As 2>/dev/full does."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def onto_nobody() -> None:
    """As 2>&1 | head -2 does, when head has gone."""
    nobody, end = os.pipe()
    os.close(nobody)
    os.dup2(end, 1)
    os.dup2(end, 2)


@pytest.fixture(params=[signal.SIG_DFL])
def hang_up(request) -> Iterator[None]:
    """What a hang-up means to what these tests start, however they were started themselves."""
    before = signal.signal(signal.SIGHUP, request.param)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("lost", [onto_full_disk, onto_nobody])
def test_a_run_whose_terminal_takes_nothing_finishes_with_its_whole_log(lost, tmp_path: Path):
    done = entry("train", *TRAIN, "--save", f"{tmp_path}/", before=lost)
    assert done.returncode == 0
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "finished"
    log = (tmp_path / "log.rank0.txt").read_text()
    assert all(f"epoch {epoch} of 2" in log for epoch in (1, 2)) and "Traceback" not in log


@pytest.mark.parametrize("lost", [onto_full_disk, onto_nobody])
def test_a_mistake_that_nobody_can_read_ends_with_2_all_the_same(lost, tmp_path: Path):
    assert entry("train", *TRAIN, "--epochs", "none", "--save", f"{tmp_path}/", before=lost).returncode == 2


def test_a_hang_up_saves_and_stops(hang_up, tmp_path: Path):
    done = entry_killed_at_batch(5, "train", *TRAIN, "--save", f"{tmp_path}/", KILL_SIGNAL="SIGHUP")
    assert done.returncode == 128 + signal.SIGHUP and "stopped by SIGHUP" in done.stderr, done.stderr
    assert any(tmp_path.glob("checkpoints/step-*")) and not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("hang_up", [signal.SIG_IGN], indirect=True)
def test_a_hang_up_that_is_ignored_stays_so(hang_up, tmp_path: Path):
    done = entry_killed_at_batch(5, "train", *TRAIN, "--save", f"{tmp_path}/", KILL_SIGNAL="SIGHUP")
    assert done.returncode == 0 and (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("hang_up", "processes", "epochs", "code"),
    [(signal.SIG_IGN, "1", "2", 0), (signal.SIG_DFL, "2", "1000", 128 + signal.SIGHUP)],
    indirect=["hang_up"],
    ids=["nohup", "no nohup"],
)
def test_what_a_launch_script_starts_outlives_the_session_under_nohup_alone(
    hang_up, processes, epochs, code, tmp_path: Path
):
    """The kernel's hang-up goes to every process of the terminal, and all they say goes nowhere."""
    hold = Hold(tmp_path / "hold")
    hold.at_step(1, 0)
    environment = {**os.environ, **SINGLE_THREAD, **hold.environment, "PROCESSES": processes}
    flags = (*TRAIN, "--epochs", epochs, "--save", f"{tmp_path}/run/")
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(
            [LOCAL, "train", *flags], stdout=full, stderr=full, env=environment, start_new_session=True
        ) as launch,
    ):
        hold.wait(int(processes), tmp_path / "run" / "log.rank0.txt")
        os.killpg(launch.pid, signal.SIGHUP)
        hold.release()
        assert launch.wait(timeout=240) == code
    assert (tmp_path / "run" / "result.json").exists() == (code == 0)
    assert any((tmp_path / "run").glob("checkpoints/step-*"))
