"""Log a long step while it runs: the other log lines come after a number of steps."""

import logging
import threading
import time

log = logging.getLogger(__name__)

SECONDS = 60.0


class Heartbeat:
    """Log, once per minute, what has been running for longer than that. A context manager, for its thread.

    Args:
        silent: log nothing, as on all ranks but the first.
    """

    def __init__(self, silent: bool = False, seconds: float = SECONDS):
        self.silent, self.seconds = silent, seconds
        self._what, self._since = "", time.monotonic()
        self._closed = threading.Event()

    def __enter__(self) -> "Heartbeat":
        if not self.silent:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()

    def begin(self, what: str) -> None:
        """Begin something, which ends what was running before."""
        self._since, self._what = time.monotonic(), what

    def _watch(self) -> None:
        logged_at = 0.0
        while not self._closed.wait(self.seconds / 12):
            now, since = time.monotonic(), self._since
            if self._what and now - max(since, logged_at) >= self.seconds:
                logged_at = now
                log.info("%s has taken %.0f s so far", self._what, now - since)
