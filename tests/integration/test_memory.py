"""The memory check and the end of a run that runs out of memory, under limits that the system enforces."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import forked
from run_entries import FEW, SMALL_SEARCH, TINY, entry, start

from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.memory.available import free_memory
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.training import search_step
from darts_hpc.training.precision import Precision
from darts_hpc.units import parse_bytes

# 4 times the area of TINY's images, so that a step needs gigabytes; both supernets start from the same few weights
LARGE = [
    *TINY,
    "--memory_check",
    "auto",
    "--image_size",
    "32",
    "--batch_size",
    "200",
    "--supernet",
    "fast",
    "--init_channels",
    "16",
]

LIMITED = """
import os, resource, runpy, signal, sys
limit = int(sys.argv[1])
from darts_hpc.data.loading.batches import BatchSource
batch = BatchSource.batch
def last(self, epoch, step):
    os.kill(os.getpid(), signal.SIGUSR1)
    return batch(self, epoch, step)
BatchSource.batch = last
import torch, torch._dynamo, darts_hpc.run.run, darts_hpc.memory.predict
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
sys.argv = ["train_search", *sys.argv[2:]]
runpy.run_module("darts_hpc.train_search", run_name="__main__", alter_sys=True)
"""
LIMIT = 3 * 2**28  # a quarter of a gigabyte beside the margin


def with_ulimit(*flags: object):
    """Run one step of a search that may map LIMIT bytes more than Python, torch and the package have."""
    return start(["-c", LIMITED, str(LIMIT), *map(str, flags)])


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> subprocess.CompletedProcess:
    """What LARGE comes to under a limit that it does not fit."""
    folder = tmp_path_factory.mktemp("refused")
    done = with_ulimit(*LARGE, "--save", folder / "run")
    assert not list(folder.iterdir())
    return done


def test_a_step_that_does_not_fit_is_refused_under_ulimit_before_any_work(refused):
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    line, header, asked, recomputed = refused.stderr.strip().splitlines()
    assert line.startswith("error: a step needs") and "ulimit -v leaves" in line and "would fit" in line
    assert header.startswith("plan") and asked.startswith("> first order") and "--checkpoint_cells" in recomputed


@pytest.mark.slow
def test_a_batch_size_that_a_refusal_under_ulimit_names_does_run(refused, tmp_path):
    named = re.search(r"--batch_size (\d+)", refused.stderr)
    assert named is not None
    done = with_ulimit(*LARGE, "--batch_size", named[1], "--save", tmp_path / "run")
    assert "recomputing cells in backward" in done.stderr
    assert done.returncode == 138 and "stopped by SIGUSR1 in epoch 1 after 1 steps, saved" in done.stderr, done.stderr


@pytest.mark.slow
def test_out_of_memory_all_the_same_ends_with_the_table_and_a_checkpoint_to_go_on_from(tmp_path):
    folder = tmp_path / "run"
    done = with_ulimit(*LARGE, "--memory_check", "off", "--save", folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "out of memory in epoch 1 after 0 steps, saved" in done.stderr and "--resume auto" in done.stderr
    assert "error: out of memory: " in done.stderr and done.stderr.splitlines()[-2].startswith("> first order")
    newest = CheckpointStore(folder / "checkpoints").load_newest()
    assert newest is not None and newest.step == 0


SEARCH = [*SMALL_SEARCH, "--epochs", "1", "--checkpoint_freq", "0"]


def ask_for_too_much(owner: Any, work: str, at: int) -> None:
    """Let a call of something ask for more than there is: a stand-in for a neighbour that takes the memory."""
    do, calls = getattr(owner, work), [0]

    def short_of_memory(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            torch.empty(2**60, dtype=torch.uint8)
        return do(*args, **kwargs)

    setattr(owner, work, short_of_memory)


@pytest.fixture(scope="module")
def free(tmp_path_factory) -> Path:
    """The run of SEARCH that is never short of memory."""
    folder = tmp_path_factory.mktemp("free") / "run"
    done = entry("train_search", *SEARCH, "--save", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "work", "call", "steps"), [(search_step, "weight_step", 2, 1), (BatchSource, "batches", 3, 2)]
)
def test_a_search_stopped_for_want_of_memory_in_a_step_or_in_validation_ends_as_one_that_never_was(
    tmp_path, free, owner, work, call, steps
):
    flags = [*SEARCH, "--save", tmp_path / "run", "--resume", "auto"]
    done = entry("train_search", *flags, before=lambda: ask_for_too_much(owner, work, call))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"out of memory in epoch 1 after {steps} steps, saved" in done.stderr, done.stderr
    done = entry("train_search", *flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (free / "metrics.jsonl").read_bytes()
    assert (tmp_path / "run" / "weights.pt").read_bytes() == (free / "weights.pt").read_bytes()


TRAINING = [*TINY, *FEW, "--memory_check", "auto", "--arch", "DARTS_V1", "--checkpoint_freq", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The run of TRAINING that is never short of memory."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = entry("train", *TRAINING, "--save", folder)
    assert done.returncode == 0 and "a step takes" in done.stderr, done.stderr
    return folder


# the check before the first step takes one without memory, which is the first call
@pytest.mark.parametrize(
    ("owner", "work", "call", "steps"), [(Precision, "clip_and_step", 3, 1), (BatchSource, "batches", 2, 5)]
)
def test_a_training_stopped_for_want_of_memory_ends_with_the_table_and_resumes_as_one_that_never_was(
    tmp_path, trained, owner, work, call, steps
):
    flags = [*TRAINING, "--save", tmp_path / "run", "--resume", "auto"]
    done = entry("train", *flags, before=lambda: ask_for_too_much(owner, work, call))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"out of memory in epoch 1 after {steps} steps, saved" in done.stderr, done.stderr
    assert "error: out of memory: " in done.stderr and done.stderr.splitlines()[-2].startswith("> plain network")
    done = entry("train", *flags)
    assert done.returncode == 0, done.stderr
    for file in ("metrics.jsonl", "weights.pt"):
        assert (tmp_path / "run" / file).read_bytes() == (trained / file).read_bytes()


SMOKE = ["--config", "configs/imagenet/smoke.yaml", "--device", "cpu", "--layers", "3", "--init_channels", "4"]


@pytest.mark.parametrize(("name", "flags"), [("train", [*TRAINING, "--layers", "8"]), ("train_imagenet", SMOKE)])
def test_a_training_that_does_not_fit_is_refused_before_any_work_and_recomputes_cells_where_that_fits(
    name, flags, tmp_path
):
    planned = entry("plan", name, *flags, "--memory_limit", "1MB")
    assert planned.returncode == 0, planned.stderr
    said, header, plain, recomputed, *fast = planned.stdout.strip().splitlines()
    assert "a step needs" in said and header.startswith("plan") and len(fast) == 2
    assert plain.startswith("> plain network ") and "--checkpoint_cells" in recomputed
    assert "next:" not in planned.stderr  # the run would be refused
    done = entry(name, *flags, "--memory_limit", "1MB", "--save", tmp_path / "run")
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    line, *explained = done.stderr.strip().splitlines()
    assert line.startswith("error: a step needs") and explained == [header, plain, recomputed]
    if name == "train":
        needs = [parse_bytes(re.findall(r"[\d.]+ MiB", row)[0]) for row in (plain, recomputed)]
        flags = [*flags, "--epochs", "1", "--memory_limit", str(sum(needs) // 2)]
        following = entry("plan", name, *flags).stderr.splitlines()[-1]
        assert following.startswith("next:") and f"{name} " in following
        done = entry(name, *flags, "--save", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        assert "recomputing cells in backward (--checkpoint_cells)" in done.stderr


def test_a_limit_where_only_recomputed_cells_fit_takes_them_and_says_so(tmp_path):
    flags = [*TINY, *FEW, "--memory_check", "auto", "--supernet", "fast", "--memory_limit", "18MiB", "--epochs", "1"]
    done = entry("train_search", *flags, "--save", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "recomputing cells in backward (--checkpoint_cells)" in done.stderr


def test_plan_prints_every_gradient_and_runs_nothing(tmp_path):
    done = entry("plan", *TINY, "--memory_check", "auto", "--space", "s2", "--unrolled", "--memory_limit", "1MB")
    assert done.returncode == 0, done.stderr
    said, header, *rows = done.stdout.strip().splitlines()
    assert "a step needs" in said and header.startswith("plan") and len(rows) == 6
    assert [row[0] for row in rows] == [" ", " ", ">", " ", " ", " "] and "exact second order" in rows[-1]
    tracing = [f"tracing {number} of 6" for number in range(1, 7)]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == tracing  # and not what to type next


def show_free_memory_in(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
    free = free_memory(torch.device("cpu"))
    print(free.source, free.num_bytes)


def test_the_limit_of_a_control_group_is_kept():
    group = Path("/sys/fs/cgroup/memory/darts_hpc_test")
    if not os.access(group.parent, os.W_OK):
        pytest.skip("this machine lets nobody make memory control groups here (version 1, as root)")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(2**30))
        done = forked(lambda: show_free_memory_in(group))
        assert done.returncode == 0, done.stderr
        *source, left = done.stdout.split()
        assert " ".join(source) == "the cgroup's memory.limit_in_bytes leaves" and 0 < float(left) < 2**30
    finally:
        group.rmdir()
