"""The progress bar: on a terminal only."""

import io
import sys

import pytest

from darts_hpc.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "enabled", "shown"), [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)]
)
def test_a_bar_is_drawn_on_a_terminal_by_the_main_rank_only(stderr, enabled, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = Progress(total=10, done=4, enabled=enabled)
    progress.describe("epoch 1/2", {"loss": 0.25})
    for _ in range(3):
        progress.step()
    progress._bar.refresh()
    progress.close()
    said = stderr.getvalue()
    assert ("7/10" in said and "epoch 1/2" in said and "loss=0.25" in said) == shown
    assert bool(said) == shown
