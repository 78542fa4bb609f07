"""Each row of the table: the command says its one line, ends as it should, and leaves everything else alone."""

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import damage
import pytest
import soak
import torch
from attempts import attempt, changes, contents
from damage import digests, make_stopped
from row import Row
from table import TABLE
from things import make_things

from darts_hpc.run.reader import read_run


@pytest.fixture(scope="module")
def things() -> Iterator[Path]:
    """What users name."""
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        made = make_things(Path(folder) / "things")
        make_stopped(made)
        before = contents(made)
        yield made
        assert not changes(before, contents(made))  # whatever the rows below have tried
    gc.unfreeze()


@pytest.fixture
def new(things: Path) -> Iterator[Path]:
    """An empty folder."""
    with tempfile.TemporaryDirectory(dir=things.parent) as folder:
        yield Path(folder)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_fault_is_said_in_a_line_and_costs_nothing_else(row: Row, things: Path, new: Path):
    row.fault(things, new)
    placed = contents(new)
    command = tuple(word.replace("{things}", str(things)).replace("{new}", str(new)) for word in row.command)
    done = attempt(command, new, before=row.before, runs=row.runs)
    assert not done.problem and done.code == row.code, done.said
    assert row.code != 2 or row.said in done.refusals[0]
    left = [name for name in changes(placed, contents(new)) if "log.rank0" not in name and ".lock" not in name]
    if row.code == 2 and not row.runs:
        assert not left, done.said
    if row.finishes:
        assert read_run(new / "run").finished
        runs = (new / "run", things / "runs" / row.finishes)
        ours, undisturbed = (digests(run, records=not row.loses_records) for run in runs)
        assert ours == undisturbed


@pytest.mark.parametrize(
    ("before", "seconds", "problem"),
    [(partial(time.sleep, 100), 0.1, "hang"), (lambda: [][0], 60, "traceback"), (lambda: exit(1), 60, "traceback")],
)
def test_an_attempt_tells_a_bad_end(before, seconds: float, problem: str, new: Path):
    assert attempt(("train", "--layers", "1"), new, before=before, seconds=seconds).problem == problem


def found_in_weights(things: Path) -> set[str | None]:
    """What the soak says of 30 damaged files of weights."""
    asked = argparse.Namespace(seed=0, kind="weights")
    return {verdict for number in range(30) for _, _, verdict, _ in soak._one(asked, number, things)}


def test_the_soak_says_what_was_missed(things: Path, monkeypatch):
    assert found_in_weights(things) == {None}
    monkeypatch.setattr(damage, "read_weights", partial(torch.load, weights_only=True))  # which compares no digest
    assert {"missed", "tracebacks"} <= found_in_weights(things)
