"""A step that takes long says so while it does."""

import logging
import threading
from types import SimpleNamespace

from darts_hpc.run import heartbeat
from darts_hpc.run.heartbeat import Heartbeat


def test_a_long_step_is_logged_while_it_lasts_and_a_short_one_never(monkeypatch):
    logged, said, clock = [], threading.Event(), [0.0]
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(heartbeat.log, "info", lambda line, *args: (logged.append(line % args), said.set()))
    with Heartbeat(seconds=0.05) as beat:
        for step in range(1000):
            beat.begin(f"step {step}")
            clock[0] += 0.04
        beat.begin("step 1000")
        clock[0] += 1
        assert said.wait(240)
    assert all(line.startswith("step 1000 has taken ") for line in logged)


def test_other_ranks_are_silent(caplog):
    before = set(threading.enumerate())
    with caplog.at_level(logging.INFO), Heartbeat(silent=True, seconds=0.01) as beat:
        beat.begin("step 1")
        assert set(threading.enumerate()) <= before
    assert not caplog.records
