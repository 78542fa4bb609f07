"""A progress bar on a terminal; nothing in a file, where the log's lines tell."""

import sys
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """Steps done of all the run's, with the last reported numbers beside them."""

    def __init__(self, total: int, done: int, enabled: bool):
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not (enabled and sys.stderr.isatty()),
            dynamic_ncols=True,
            leave=False,
            mininterval=0.2,
            unit="step",
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )

    def step(self) -> None:
        """Count one step."""
        self._bar.update()

    def describe(self, text: str, numbers: Mapping[str, float] | None = None) -> None:
        """Set the words before the bar and the numbers after it."""
        self._bar.set_description_str(text, refresh=False)
        if numbers:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in numbers.items()}, refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
