"""Signals as a wish to stop."""

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
def test_the_first_signal_is_a_wish_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.requested == 0
        os.kill(os.getpid(), number)
        assert interrupt.requested == number
    assert signal.getsignal(number) == before


def end_of(script: str) -> tuple[int, str]:
    """Run a script in which `interrupt` is open, with a deadline of 3 s; return its exit code and what it said."""
    lines = ["import os, signal, sys, time", "from darts_hpc.run.interrupt import ECHO_S, Interrupt"]
    lines += ["with Interrupt(deadline_s=3) as interrupt:", *[f"    {line}" for line in script.splitlines()]]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr


# A lock that never comes, in C: no Python handler gets to run, as in a collective whose peers are gone.
STUCK = "import ctypes; lock = ctypes.create_string_buffer(64)\n"
STUCK += "while True: ctypes.CDLL(None).pthread_mutex_lock(lock)"


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_even_a_process_that_is_stuck_in_c(second):
    later = f"import threading; threading.Timer(ECHO_S + 0.2, os.kill, (os.getpid(), {int(second)})).start()\n"
    assert end_of(f"os.kill(os.getpid(), 15)\n{later}{STUCK}") == (128 + second, "")


def test_a_process_that_does_not_stop_by_the_deadline_is_ended():
    code, said = end_of(f"os.kill(os.getpid(), 10)\n{STUCK}")
    assert code == 128 + signal.SIGKILL and "not stopped within 3 s" in said


def test_the_echo_of_a_signal_through_a_launcher_is_no_second_one():
    assert end_of("for _ in range(5): os.kill(os.getpid(), 2); time.sleep(0.1)\nassert interrupt.requested == 2") == (
        0,
        "",
    )


def test_a_hang_up_that_nohup_has_ignored_is_no_wish(monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_run_that_stops_in_time_outlives_its_deadline():
    assert end_of("os.kill(os.getpid(), 10)\ninterrupt.__exit__()\ntime.sleep(4)") == (0, "")


def test_a_signal_to_a_forked_worker_is_not_the_runs(capfd):
    script = "worker = os.fork()\nif worker == 0: time.sleep(1.5); os._exit(7)\nprint = sys.stderr.write\n"
    script += "time.sleep(0.5)\nfor number in (2, 10, 15): os.kill(worker, number)\n"
    script += "print(f'{os.waitpid(worker, 0)[1] >> 8} {interrupt.requested}')\ntime.sleep(4)"
    assert end_of(script) == (0, "7 0")


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
