"""How far a long job over many images is: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30


class Counter:
    """Counts to `total` of a `unit`. Use it as a context manager."""

    def __init__(self, total: int, what: str, unit: str = "image"):
        self.total, self.what, self.told = total, what, time.monotonic()
        self.bar = tqdm(total=total, desc=what, unit=unit, disable=not sys.stderr.isatty(), leave=False)
        self.done = 0

    def __enter__(self) -> "Counter":
        log.info("%s: %d", self.what, self.total)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def add(self, count: int) -> None:
        """Count some more."""
        self.done += count
        self.bar.update(count)
        if self.bar.disable and time.monotonic() - self.told > SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            log.info("%s: %d of %d", self.what, self.done, self.total)
