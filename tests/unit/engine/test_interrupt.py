"""Signals as a wish to stop."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from darts_hpc.engine.interrupt import SIGNALS, Interrupt


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_wish_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        os.kill(os.getpid(), number)
        assert interrupt.requested == signal.Signals(number).name
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(second):
    code = "import os, sys, time; from darts_hpc.engine.interrupt import Interrupt\n"
    code += "with Interrupt():\n os.kill(os.getpid(), 15)\n os.kill(os.getpid(), int(sys.argv[1]))\n time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code, str(int(second))], check=False, timeout=30)
    assert done.returncode == -second


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def use():
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [None] and signal.getsignal(signal.SIGTERM) == before
