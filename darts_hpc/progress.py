"""How far a job is: a bar on a terminal, and lines in the log where there is none."""

import logging
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30


class Progress:
    """Counts to `total` of a `unit`. Use it as a context manager, or close it.

    Args:
        title: words before the bar.
        done: what was counted before.
        enabled: False draws no bar, as on other ranks than the first.
        logged: write to the log at the start, and now and then where there is no bar, as for a job that logs nothing
            of its own.
    """

    def __init__(
        self, total: int, unit: str, *, title: str = "", done: int = 0, enabled: bool = True, logged: bool = False
    ):
        self.total, self.title, self.done, self.logged = total, title, done, logged
        self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total,
            desc=title,
            initial=done,
            disable=not (enabled and sys.stderr.isatty()),
            dynamic_ncols=True,
            leave=False,
            mininterval=0.2,
            unit=unit,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )
        if logged:
            log.info("%s: %d", title, total)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, count: int = 1) -> None:
        """Count some more."""
        self.done += count
        self._bar.update(count)
        if self.logged and self._bar.disable and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("%s: %d of %d", self.title, self.done, self.total)

    def describe(self, title: str, numbers: Mapping[str, float] | None = None) -> None:
        """Set the words before the bar, and the numbers after it."""
        self._bar.set_description_str(title, refresh=False)
        if numbers:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in numbers.items()}, refresh=False)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.close()
