"""When records are of, and records that somebody damaged while the run stood still, against what reports read."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from darts_hpc.config.shared import RunConfig
from darts_hpc.distributed.world import World
from darts_hpc.run.checkpoint import Checkpoint, CheckpointStore
from darts_hpc.run.reader import read_run
from darts_hpc.run.recorder import RECORDS, Recorder, has_records
from darts_hpc.space.genotypes import GENOTYPES

WORLD = World(torch.device("cpu"))
CFG = RunConfig(epochs=3, tensorboard=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three epochs, with a checkpoint at the end of each."""
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    with Recorder.open(tmp_path, CFG, WORLD, None) as recorder:
        for epoch in range(3):
            recorder.epoch(epoch, 3, epoch, {"valid/accuracy": 10.0 * epoch, "alphas/normal": [[0.1] * 8] * 14})
            recorder.genotype(epoch, epoch, "epoch_end", GENOTYPES["DARTS"])
            store.save(epoch, {"state": recorder.state_dict()}, {})
    return tmp_path


def newest(run: Path) -> Checkpoint:
    found = CheckpointStore(run / "checkpoints").load_newest(lambda checkpoint: has_records(run, checkpoint))
    assert found is not None
    return found


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def test_the_time_of_an_epoch_is_that_of_its_end_after_its_evaluation(tmp_path: Path, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("darts_hpc.run.recorder.time", SimpleNamespace(monotonic=lambda: next(now)))
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    with Recorder.open(tmp_path, CFG, WORLD, None) as recorder:
        recorder.start_clock()
        recorder.performance(0, 5)
        next(now)  # the evaluation
        recorder.epoch(0, 3, 5, {"valid/accuracy": 10.0})
    run = read_run(tmp_path)
    assert [(each["event"], each["performance/seconds"]) for each in run.performance] == [
        ("performance", 10.0),
        ("epoch", 30.0),
    ]
    assert run.numbers["seconds"] == 30.0 and run.numbers["peak_memory_bytes"] > 0


def test_whole_records_fit_the_newest_checkpoint(run: Path, caplog):
    assert newest(run).step == 2 and not caplog.text


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("fault", [b"\xff", b"\0", b"[]\n", b"{}\n", b"x"])
def test_the_checkpoint_is_taken_before_which_no_record_is_overwritten(fault: bytes, name: str, run: Path, caplog):
    path = run / f"{name}.jsonl"
    ends = [index + 1 for index, byte in enumerate(path.read_bytes()) if byte == ord("\n")]
    overwrite(path, ends[1] + 1, fault * 2000)  # in the third record, and far beyond its end
    assert newest(run).step == 1 and f"{name}.jsonl is cut or damaged before checkpoint" in caplog.text
    with Recorder.open(run, CFG, WORLD, newest(run)):
        assert path.stat().st_size == ends[1]
    read_run(run)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("fault", [b"\xff", b"\0"])
def test_where_no_checkpoint_fits_the_whole_records_at_the_beginning_stay(fault: bytes, name: str, run: Path, caplog):
    path = run / f"{name}.jsonl"
    overwrite(path, 0, fault * path.stat().st_size)
    found = newest(run)
    with Recorder.open(run, CFG, WORLD, found) as recorder:
        recorder.epoch(3, 4, 3, {"valid/accuracy": 30.0})
    assert found.step == 2 and f"{name}.jsonl was cut, overwritten or removed: 0 of" in caplog.text
    assert [epoch["epoch"] for epoch in read_run(run).epochs] == ([3] if name == "metrics" else [0, 1, 2, 3])
