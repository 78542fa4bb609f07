"""torchrun's exit code and its restarts follow from its workers' exit codes and from signals to it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from darts_hpc.distributed.elastic import exit_code, with_defaults
from darts_hpc.distributed.launcher import MISTAKE, leave_stopped, stop_restarts

TORCHRUN = {"TORCHELASTIC_MAX_RESTARTS": "3", "LOCAL_RANK": "0"}
HANDLED = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"}


@pytest.fixture
def killed(monkeypatch) -> list[int]:
    """The signals that are sent; this process goes on handling its own."""
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append(number))
    monkeypatch.setattr("signal.signal", lambda *args: None)
    return sent


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ((143, -15), 143),
        ((-9, -15), 1),
        ((1, 1), 1),
        ((2, 143), 2),
        ((138, 138), 138),
        ((130, 0), 130),
        ((-10, -10), 138),
    ],
)
def test_its_exit_code_is_that_of_a_stop_or_of_a_mistake_of_its_workers(ends, code, tmp_path):
    failures = {rank: ProcessFailure(rank, 1, end, str(tmp_path)) for rank, end in enumerate(ends)}
    assert exit_code(ChildFailedError("train", failures)) == code


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138), (MISTAKE, 2)]
)
def test_its_exit_code_is_that_of_a_signal_to_it(number, code):
    assert exit_code(SignalException("got one", number)) == code


def test_a_stop_is_passed_to_torchrun_by_the_same_signal_where_it_handles_that(killed):
    stop_restarts(signal.SIGUSR1, TORCHRUN | HANDLED)
    stop_restarts(signal.SIGUSR1, TORCHRUN)  # it would die of it, and leave its workers behind
    stop_restarts(signal.SIGUSR1, {"LOCAL_RANK": "0"})  # nothing restarts
    assert killed == [signal.SIGUSR1, signal.SIGTERM]


@pytest.mark.parametrize(("hang_up", "handled"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_it_passes_on_every_stop_but_a_hang_up_that_nohup_has_it_ignore(hang_up, handled, monkeypatch):
    monkeypatch.setattr("signal.getsignal", lambda number: hang_up)
    names = with_defaults(["-m", "x"])[0].partition("=")[2].split(",")
    assert ("SIGHUP" in names) == handled
    assert {"SIGINT", "SIGTERM", "SIGUSR1", "SIGQUIT", MISTAKE.name} <= set(names)
    assert MISTAKE not in (signal.SIGHUP, signal.SIGTERM)


def test_a_stop_while_it_imports_torch_ends_it_in_one_line():
    torchrun = [sys.executable, "-m", "darts_hpc.distributed.torchrun", "--standalone", "--no-python", "true"]
    with subprocess.Popen(torchrun, stderr=subprocess.PIPE, text=True) as started:
        while "libtorch" not in Path(f"/proc/{started.pid}/maps").read_text():
            assert started.poll() is None
            time.sleep(0.01)
        started.send_signal(signal.SIGUSR1)
        said = started.communicate()[1]
    assert started.returncode == 138 and said == "stopped by SIGUSR1 before the processes were started\n"


def test_one_process_of_each_node_signals_it(killed):
    for rank in "012":
        with pytest.raises(SystemExit) as ended:
            leave_stopped(signal.SIGTERM, TORCHRUN | {"LOCAL_RANK": rank})
        assert ended.value.code == 143
    assert killed == [signal.SIGTERM]
