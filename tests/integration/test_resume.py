"""A run that was killed and resumed, twice, ends bit for bit as one that never stopped."""

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_entries import FEW, SMALL_SEARCH, TINY, entry, entry_killed_at_batch, records

from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.reader import read_config

RANDOM = ["--drop_path_prob", "0.3", "--auxiliary", "--cutout", "--cutout_length", "3"]
RANDOM += ["--ema", "0.7", "--augment", "trivial"]
STACKED = [*TINY, *FEW, "--image_size", "4", "--supernet", "fast"]
RUNS = {
    # name: entry, flags. An epoch of the search asks for 2 batches in each of 2 steps, then 3 for validation: 7 calls
    "search": ("train_search", SMALL_SEARCH),
    "unrolled": ("train_search", [*STACKED, "--unrolled"]),
    "stacked": ("train_search", [*STACKED, "--checkpoint_cells"]),
    # 5 steps, then 2 test batches: 7 calls an epoch
    "train": ("train", [*TINY, *FEW, "--arch", "DARTS_V1", *RANDOM]),
}


def tensors(value: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{path}/{key}")


def outcome(folder: Path) -> dict[str, str]:
    """Digests of all that the issue is about: weights, alphas, optimizers, statistics, genotypes and metrics."""
    newest = CheckpointStore(folder / "checkpoints").load_newest()
    assert newest is not None
    state = newest.load("state")["objects"]
    digests = {name: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for name, t in tensors(state)}
    assert any("momentum_buffer" in name for name in digests)
    assert ("average" in state) == (read_config(folder)[1].get("ema", 0) > 0)
    return digests | {name: hashlib.sha256(records(folder, name)).hexdigest() for name in ("metrics", "genotypes")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Outcome of a run that nothing disturbs, by name; each is run once."""
    outcomes = {}

    def run(name: str) -> dict[str, str]:
        if name not in outcomes:
            folder = tmp_path_factory.mktemp("undisturbed") / name
            entry_name, flags = RUNS[name]
            done = entry(entry_name, *flags, "--save", folder)
            assert done.returncode == 0, done.stderr
            outcomes[name] = outcome(folder)
        return outcomes[name]

    return run


def finish(name: str, folder: Path) -> str:
    """Resume to the end; return what was logged."""
    entry_name, flags = RUNS[name]
    done = entry(entry_name, *flags, "--save", folder, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert (folder / "result.json").exists()
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("unrolled", (2, 13)),  # the first step's second batch; then, from the start again, in the second validation
        ("stacked", (4, 11)),  # the second step; then the second epoch's validation
        ("train", (6, 9)),  # the first test; then, from the start again, the second epoch
        ("train", (10, 6)),  # the second epoch; then its test
    ],
)
def test_killed_in_steps_and_in_validation_and_resumed_twice(name, calls, undisturbed, tmp_path):
    folder = tmp_path / "run"
    entry_name, flags = RUNS[name]
    for call in calls:
        done = entry_killed_at_batch(call, entry_name, *flags, "--save", folder, "--resume", "auto")
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (folder / "result.json").exists()
    finish(name, folder)
    assert outcome(folder) == undisturbed(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "point"),
    # every point of a save by itself: tests/unit/run/test_checkpoint.py
    [("search", "before_rename"), ("train", "before_manifest"), ("train", "after_pointer")],
)
def test_killed_in_the_middle_of_a_save_and_resumed_twice(name, point, undisturbed, tmp_path):
    folder = tmp_path / "run"
    entry_name, flags = RUNS[name]
    for _ in range(2):
        done = entry(entry_name, *flags, "--save", folder, "--resume", "auto", DARTS_HPC_FAILPOINT=point)
        assert done.returncode == -signal.SIGKILL, done.stderr
    finish(name, folder)
    assert outcome(folder) == undisturbed(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call", "signal_name"), [("search", 10, "SIGINT"), ("train", 13, "SIGTERM"), ("train", 3, "SIGUSR1")]
)
def test_an_interrupt_saves_where_it_is_and_ends_as_shells_count_it(name, call, signal_name, undisturbed, tmp_path):
    folder = tmp_path / "run"
    entry_name, flags = RUNS[name]
    done = entry_killed_at_batch(call, entry_name, *flags, "--save", folder, KILL_SIGNAL=signal_name)
    assert done.returncode == 128 + signal.Signals[signal_name] and "Traceback" not in done.stderr
    assert f"stopped by {signal_name}" in done.stderr and "--resume auto" in done.stderr
    assert not (folder / "result.json").exists()
    assert "going on in epoch" in finish(name, folder)
    assert outcome(folder) == undisturbed(name)


@pytest.mark.slow
def test_checkpoints_within_an_epoch_lose_no_more_than_their_interval(undisturbed, tmp_path):
    folder = tmp_path / "run"
    flags = [*RUNS["train"][1], "--checkpoint_freq", "2", "--save", folder]
    done = entry_killed_at_batch(5, "train", *flags)
    assert done.returncode == -signal.SIGKILL
    assert "going on in epoch 1 after step 4" in finish("train", folder)
    assert outcome(folder) == undisturbed("train")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(damage, undisturbed, tmp_path):
    folder = tmp_path / "run"
    entry_killed_at_batch(14, "train", *RUNS["train"][1], "--checkpoint_freq", "3", "--save", folder)
    older, newest = sorted(folder.glob("checkpoints/step-*"))
    content = bytearray((newest / "state.pt").read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 :]
    (newest / "state.pt").write_bytes(content)
    said = finish("train", folder)
    assert f"{newest} is damaged" in said and f"from {older}" in said
    assert outcome(folder) == undisturbed("train")
