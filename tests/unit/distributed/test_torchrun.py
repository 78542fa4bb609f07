"""torchrun's exit code and its restarts follow from its workers' exit codes and from signals to it."""

import logging
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ranks import forked
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.metrics.api import prof
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from darts_hpc.distributed import elastic
from darts_hpc.distributed.agent_stops import _is_lost
from darts_hpc.distributed.elastic import HANDLED, exit_code, with_defaults
from darts_hpc.distributed.launcher import MISTAKE, leave_stopped, stop_restarts
from darts_hpc.distributed.torchrun import handle_stops

TORCHRUN = {"TORCHELASTIC_MAX_RESTARTS": "3", "LOCAL_RANK": "0"}
HANDLES = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"}


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
    stop_restarts(signal.SIGUSR1, TORCHRUN | HANDLES)
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


STOP_AT_IMPORT = """
import os, runpy, signal, sys

def stop(event, args):
    if event == "import" and args[0] == "torch._C":
        os.kill(os.getpid(), signal.SIGUSR1)

sys.addaudithook(stop)
runpy.run_module("darts_hpc.distributed.torchrun", run_name="__main__", alter_sys=True)
"""


def test_a_stop_while_it_imports_torch_ends_it_in_one_line():
    torchrun = [sys.executable, "-c", STOP_AT_IMPORT, "--standalone", "--no-python", "true"]
    ended = subprocess.run(torchrun, capture_output=True, text=True, check=False)
    assert ended.returncode == 138
    assert ended.stderr == "stopped by SIGUSR1 before the processes were started\n"


def stop_while_it_says_so() -> None:
    """Get a second stop amid the line about the first."""
    handle_stops()
    write = sys.stderr.write

    def interrupted(text: str) -> int:
        signal.raise_signal(signal.SIGTERM)
        return write(text)

    sys.stderr.write = interrupted
    signal.raise_signal(signal.SIGUSR1)


def test_a_second_stop_changes_nothing():
    ended = forked(stop_while_it_says_so)
    assert ended.returncode == 138
    assert ended.stderr == "stopped by SIGUSR1 before the processes were started\n"


def stop_at_second_worker() -> None:
    """Get a stop when the first of two workers runs, and the agent does not know it yet."""

    def stop(event: str, args: tuple) -> None:
        if event == "subprocess.Popen" and (args[3] or {}).get("LOCAL_RANK") == "1":
            signal.raise_signal(signal.SIGUSR1)

    sys.addaudithook(stop)


def stop_in_log_line() -> None:
    """Get a stop while the agent logs that it ends a worker, whose fellow has failed, to start both again."""
    text = logging.Formatter.format

    def stop(self: logging.Formatter, record: logging.LogRecord) -> str:
        if "closing signal" in record.msg:
            logging.Formatter.format = text
            signal.raise_signal(signal.SIGUSR1)
        return text(self, record)

    logging.Formatter.format = stop


WORKER = """#!/bin/sh
[ "$TORCHELASTIC_RESTART_COUNT" = 0 ] || exit 0
{first} && [ "$RANK" = 0 ] && exit 1
exec sleep 1000
"""


@pytest.mark.parametrize(("stop", "first"), [(stop_at_second_worker, "false"), (stop_in_log_line, "true")])
def test_a_stop_is_not_lost_wherever_it_comes_and_leaves_no_worker(stop, first, tmp_path: Path):
    worker = tmp_path / "worker"
    worker.write_text(WORKER.format(first=first))
    worker.chmod(0o755)

    alive, held = os.pipe()  # by the workers, in whichever session they are

    def launch() -> None:
        os.dup2(held, 1)
        os.close(held)
        stop()
        elastic.launch(["--standalone", "--nproc-per-node=2", "--max-restarts=1", "--no-python", str(worker)])

    ended = forked(launch, OMP_NUM_THREADS="1")
    os.close(held)
    assert ended.returncode == 138 and "Traceback" not in ended.stderr, ended.stderr
    assert select.select([alive], [], [], 0)[0] and os.read(alive, 1) == b""
    os.close(alive)


def test_a_stop_waits_until_the_timing_of_a_call_has_begun(monkeypatch):
    seen: list[bool] = []

    def name_of(function) -> str:
        seen.append(_is_lost(sys._getframe(1)))
        return "a call"

    monkeypatch.setattr("torch.distributed.elastic.metrics.api._get_metric_name", name_of)
    timed: Any = prof(lambda: None)
    timed()
    start: Any = LocalElasticAgent._start_workers
    assert seen == [True] and start.__code__ is timed.__code__


def test_a_stop_when_all_workers_have_ended_does_not_change_how_it_ends(tmp_path: Path):
    failed = ChildFailedError("train", {0: ProcessFailure(0, 1, 2, str(tmp_path))})

    def stopped_late() -> None:
        def main(arguments: list[str]) -> None:
            for number in HANDLED:
                signal.signal(number, api._terminate_process_handler)
            raise failed

        def code(error: ChildFailedError) -> int:
            for number in HANDLED:
                signal.raise_signal(number)
            return exit_code(error)

        elastic.main, elastic.exit_code = main, code
        elastic.launch([])

    ended = forked(stopped_late)
    assert (ended.returncode, ended.stderr) == (2, "")


def test_one_process_of_each_node_signals_it(killed):
    for rank in "012":
        with pytest.raises(SystemExit) as ended:
            leave_stopped(signal.SIGTERM, TORCHRUN | {"LOCAL_RANK": rank})
        assert ended.value.code == 143
    assert killed == [signal.SIGTERM]
