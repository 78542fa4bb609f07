"""Signals as a request to stop."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from darts_hpc.run.interrupt import SIGNALS, Interrupt


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Undo nohup, under which these tests may run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_request_and_handlers_are_restored(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.requested == 0
        os.kill(os.getpid(), number)
        assert interrupt.requested == number
    assert signal.getsignal(number) == before


def end_of(script: str, echo_s: float = 60, deadline_s: float = 200) -> tuple[int, str]:
    """Run a script in which `interrupt` is open; return its exit code and what it printed."""
    lines = ["import os, signal, sys, threading", "from darts_hpc.run import interrupt as module"]
    lines += [f"module.ECHO_S = {echo_s}", f"with module.Interrupt({deadline_s}) as interrupt:"]
    lines += [f"    {line}" for line in script.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=240
    )
    return done.returncode, done.stderr


# A lock that never comes, in C: no Python handler gets to run, as in a collective whose peers are gone.
STUCK = "import ctypes; lock = ctypes.create_string_buffer(64)\n"
STUCK += "while True: ctypes.CDLL(None).pthread_mutex_lock(lock)"
# Until the thread that would end the process has seen every signal, and has ended itself.
CLOSE = "interrupt.__exit__()\nfor thread in threading.enumerate()[1:]: thread.join()\n"


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_even_a_process_that_is_stuck_in_c(second):
    later = f"threading.Timer(0.2, os.kill, (os.getpid(), {int(second)})).start()\n"
    assert end_of(f"os.kill(os.getpid(), 15)\n{later}{STUCK}", echo_s=0) == (128 + second, "")


def test_a_process_that_does_not_stop_by_the_deadline_is_ended():
    code, said = end_of(f"os.kill(os.getpid(), 10)\n{STUCK}", deadline_s=1)
    assert code == 128 + signal.SIGKILL and "not stopped within 1 s" in said


def test_the_echo_of_a_signal_through_a_launcher_is_no_second_one():
    assert end_of(f"for _ in range(5): os.kill(os.getpid(), 2)\n{CLOSE}assert interrupt.requested == 2") == (0, "")


def test_a_hang_up_that_nohup_has_ignored_is_no_wish(monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_run_that_stops_in_time_outlives_its_deadline():
    assert end_of(f"os.kill(os.getpid(), 10)\n{CLOSE}") == (0, "")


def test_a_signal_to_a_forked_worker_is_not_the_runs():
    script = "(up, ready), (wait, go) = os.pipe(), os.pipe()\nworker = os.fork()\n"
    script += "if worker == 0: os.write(ready, b'1'); os.read(wait, 1); os._exit(7)\n"
    script += "os.read(up, 1)\nfor number in (2, 10, 15): os.kill(worker, number)\n"
    script += f"os.write(go, b'1')\nend = os.waitpid(worker, 0)[1] >> 8\n{CLOSE}"
    assert end_of(f"{script}sys.stderr.write(f'{{end}} {{interrupt.requested}}')", echo_s=0) == (0, "7 0")


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def use():
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [0] and signal.getsignal(signal.SIGTERM) == before
