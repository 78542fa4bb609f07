"""A bar on a terminal only; where there is none, lines for jobs that log nothing else."""

import io
import logging
import sys

import pytest

from darts_hpc import progress as progress_module
from darts_hpc.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "enabled", "shown"), [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)]
)
def test_a_bar_is_drawn_on_a_terminal_by_the_main_rank_only(stderr, enabled, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = Progress(10, "step", done=4, enabled=enabled)
    progress.describe("epoch 1/2", {"loss": 0.25})
    for _ in range(3):
        progress.add()
    progress._bar.refresh()
    progress.close()
    said = stderr.getvalue()
    assert ("7/10" in said and "epoch 1/2" in said and "loss=0.25" in said) == shown
    assert bool(said) == shown


def test_a_job_without_a_bar_logs_how_far_it_is_now_and_then(monkeypatch, caplog):
    clock = iter([0.0, 10.0, 40.0, 40.0, 50.0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "darts_hpc"), Progress(9, "image", title="reading", logged=True) as progress:
        for count in (2, 3, 4):  # at 10, 40 and 50 seconds
            progress.add(count)
    assert caplog.messages == ["reading: 9", "reading: 5 of 9"]
