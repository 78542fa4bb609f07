"""Each row of the table: the command says its one line, ends as it should, and leaves everything else alone."""

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import attempt, changes, contents
from damage import digests, make_stopped
from row import Row
from table import TABLE
from things import make_things


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
        runs = (new / "run", things / "runs" / row.finishes)
        ours, undisturbed = (digests(run, records=not row.loses_records) for run in runs)
        assert ours == undisturbed
