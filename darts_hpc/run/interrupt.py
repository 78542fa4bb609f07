"""Ctrl-C and the signals of schedulers as a request to stop, which the loop serves after its step."""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
ECHO_S = 2.0
"""One signal arrives several times: from the terminal or the scheduler, and again from torchrun, which passes it on."""
DEADLINE_S = 240.0
"""Time to finish the step and save; torchrun (--shutdown-timeout 300) and Slurm (--signal=...@300) wait for longer."""


class Interrupt:
    """While open: the first signal sets `requested` to its number. A later one, or the deadline, ends the process.

    A thread does the latter two, because the main thread may be stuck in a collective whose peers are gone, where
    no Python handler runs.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.requested = 0
        self._deadline_s = deadline_s
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._seen, self._sent = socket.socketpair()
            self._sent.setblocking(False)
            is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as nohup wants it
            taken = SIGNALS[:-1] if is_ignored else SIGNALS
            self._before = {number: signal.signal(number, self._request) for number in taken}
            self._wakeup_before = signal.set_wakeup_fd(self._sent.fileno())
            threading.Thread(target=self._watch, args=(self._seen,), daemon=True).start()
            os.register_at_fork(after_in_child=self._in_child)
        return self

    def __exit__(self, *error: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before = {}
        signal.set_wakeup_fd(self._wakeup_before)
        self._sent.close()  # ends the thread

    def _request(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = number
            log.info("%s: finishing this step and saving, then stopping (again to stop at once)", name_of(number))

    def _in_child(self) -> None:
        """Ignore the signals in a loader's worker: schedulers signal every process, and the run still needs it."""
        if self._before:
            signal.set_wakeup_fd(-1)  # it is the parent's
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _watch(self, seen: socket.socket) -> None:
        """End the process at a second signal that is no echo of the first, or at the deadline."""
        with seen:
            if not seen.recv(1):
                return
            first = time.monotonic()
            while (left := first + self._deadline_s - time.monotonic()) > 0:
                if not select.select([seen], [], [], left)[0]:
                    break
                number = seen.recv(1)
                if not number:
                    return
                if time.monotonic() - first > ECHO_S:
                    os._exit(128 + number[0])  # as a shell counts a death by this signal
        print(f"error: not stopped within {self._deadline_s:.0f} s of a signal; ended", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGKILL)


def name_of(number: int) -> str:
    """Return a signal's name, such as SIGTERM."""
    return signal.Signals(number).name
