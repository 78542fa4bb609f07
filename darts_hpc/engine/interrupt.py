"""Ctrl-C and the signals of schedulers as a wish to stop, which the loop grants after its step."""

import logging
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupt:
    """While open: the first signal sets `requested` to its name, a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        log.info("%s: finishing this step and saving, then stopping (again to stop at once)", self.requested)
