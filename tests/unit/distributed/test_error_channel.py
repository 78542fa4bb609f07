"""Several ranks leave together: after one's mistake, and when their launcher is gone. Processes as srun starts them."""

import contextlib
import gc
import os
import secrets
import signal
import socket
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from ranks import forked

from darts_hpc.config import cli
from darts_hpc.distributed import error_channel
from darts_hpc.distributed.error_channel import ErrorChannel
from darts_hpc.distributed.launcher import FIRST_PORT, NUM_PORTS, RankInfo
from darts_hpc.distributed.stop_consensus import StopConsensus  # noqa: F401  bodies name it
from darts_hpc.distributed.world import World

NUM_RANKS = 3


def free_job() -> int:
    """Return a Slurm job whose ranks meet at a port that is free, which follows from its number."""
    while True:
        job = secrets.randbelow(NUM_PORTS // 16)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", FIRST_PORT + 16 * job))
            return job


def launch(tmp_path: Path, body: str, job: int | None = None, **environment: str) -> int:
    """Start ranks that run the body in an open world, as srun would: a fork, with forks of its own; return its pid."""
    job = free_job() if job is None else job
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost"}
    gc.collect()
    if launcher := os.fork():
        return launcher
    try:
        os.chdir(tmp_path)
        os.environ.update({**slurm, "SLURM_STEP_NUM_TASKS": str(NUM_RANKS), **environment})
        processes = [_start_rank(rank, textwrap.dedent(body)) for rank in range(NUM_RANKS)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        Path("codes").write_text(" ".join(map(str, codes)))
    finally:
        os._exit(0)


def _start_rank(rank: int, body: str) -> int:
    if process := os.fork():
        return process
    code = 0
    try:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.stdout, sys.stderr, sys.argv = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1), ["train"]
        os.environ.update(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank))
        cli.parse_config = lambda cls: None

        def main(cfg: object) -> None:
            with World.open("cpu") as world:
                exec(body, {**globals(), "world": world})

        cli.run_entry(main, object)
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def ends(tmp_path: Path, launcher: int) -> list[tuple[int, str]]:
    """Exit code and stderr of each rank."""
    os.waitpid(launcher, 0)
    codes = (tmp_path / "codes").read_text().split()
    return [(int(code), (tmp_path / f"err{rank}").read_text()) for rank, code in enumerate(codes)]


def kill(launcher: int) -> None:
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('--data is empty')", "error: --data is empty\n"),
        # One rank's mistake, while the others are in a collective with it, or hang where no peer's end is noticed.
        ("if world.rank == 0: raise ValueError('in use')\nworld.barrier()", "error: in use\n"),
        ("if world.rank == 2: raise ValueError('torn\\nshard')\nworld.barrier()", "error: rank 2: torn shard\n"),
        ("if world.rank == 1: raise ValueError('shard 7')\ntime.sleep(1000)", "error: rank 1: shard 7\n"),
    ],
    ids=["all", "rank 0", "rank 2", "hang"],
)
def test_a_mistake_on_any_rank_is_one_line_from_rank_0_and_ends_all(tmp_path, body, line):
    assert ends(tmp_path, launch(tmp_path, body)) == [(2, line), (2, ""), (2, "")]


def test_a_stop_by_a_signal_ends_every_rank_in_order_as_a_shell_counts_it(tmp_path):
    body = """
    from darts_hpc.errors import Stopped
    time.sleep(0.3 * world.rank)
    raise Stopped(15, None, "asked to")
    """
    assert ends(tmp_path, launch(tmp_path, body)) == [(143, "")] * NUM_RANKS


def test_a_port_in_use_is_one_line_from_rank_0(tmp_path):
    job = free_job()
    port = FIRST_PORT + 16 * job
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        launcher = launch(tmp_path, "pass", job)
        try:
            wait_until(lambda: (tmp_path / "err0").exists() and (tmp_path / "err0").read_text().endswith("\n"), 240)
        finally:  # a launcher ends the other ranks, as srun --kill-on-bad-exit does
            kill(launcher)
    said = (tmp_path / "err0").read_text()
    assert said.count("\n") == 1 and f"error: port {port} of 127.0.0.1" in said and "in use" in said


def test_an_interface_that_a_node_does_not_have_is_named(tmp_path):
    said = ends(tmp_path, launch(tmp_path, "pass", GLOO_SOCKET_IFNAME="ib9"))
    assert [code for code, _ in said] == [2, 2, 2]
    assert "GLOO_SOCKET_IFNAME=ib9" in said[0][1] and "has no ib9" in said[0][1] and said[1][1] == said[2][1] == ""


def test_ranks_end_within_seconds_of_their_launcher(tmp_path):
    launcher = launch(tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(1000)")
    started = [tmp_path / f"out{rank}" for rank in range(NUM_RANKS)]
    wait_until(lambda: all(out.exists() and out.read_text().endswith("\n") for out in started), 240)
    kill(launcher)
    pids = [out.read_text().strip() for out in started]
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 240)  # by themselves: after 1000


def test_all_ranks_agree_on_the_step_to_stop_at_though_only_one_was_asked(tmp_path):
    body = """
    vote = StopConsensus(world)
    for step in range(100):
        if vote.post(15 if world.rank == 1 and step >= 7 else 0):
            break
        time.sleep(0.01 * world.rank)
    vote.wait()
    print(step)
    """
    assert ends(tmp_path, launch(tmp_path, body)) == [(0, "")] * NUM_RANKS
    assert [(tmp_path / f"out{rank}").read_text() for rank in range(NUM_RANKS)] == ["8\n"] * NUM_RANKS


class StoreOfAMistake:
    """A store that holds a mistake, which every rank knows of as soon as this one does."""

    def __init__(self) -> None:
        self.acknowledged = threading.Event()

    def check(self, keys: list[str]) -> bool:
        return True

    def get(self, key: str) -> bytes:
        return b"shard 7"

    def set(self, key: str, value: str) -> None:
        self.acknowledged.set()

    def compare_set(self, key: str, expected: str, value: str) -> None:
        return


def test_a_mistake_that_the_main_thread_comes_to_while_it_is_reported_is_reported_once(monkeypatch):
    def report() -> None:
        channel = ErrorChannel.__new__(ErrorChannel)
        channel.info, channel._closed, channel._lock = RankInfo("none"), threading.Event(), threading.Lock()
        store = channel._mistakes = StoreOfAMistake()  # pyright: ignore[reportAttributeAccessIssue]
        threading.Thread(target=channel._watch, daemon=True).start()
        store.acknowledged.wait()
        channel.leave("shard 7")
        print("error: shard 7, again", file=sys.stderr, flush=True)

    monkeypatch.setattr(error_channel, "SECONDS_TO_LEAVE", 0.0)
    monkeypatch.setattr(error_channel, "stop_restarts", lambda: time.sleep(0.2))
    ended = forked(report)
    assert (ended.returncode, ended.stderr) == (2, "error: shard 7\n")


class LostStore:
    """A store that ends with rank 0, after two ranks of three have reported a failed collective there."""

    def __init__(self) -> None:
        self.answers = iter((False, True, True, False))

    def set(self, key: str, value: str) -> None:
        return

    def check(self, keys: list[str]) -> bool:
        try:
            return next(self.answers)
        except StopIteration:
            raise RuntimeError("the store is gone") from None


def test_the_silent_rank_is_named_though_rank_0_has_left_with_the_store():
    channel = ErrorChannel.__new__(ErrorChannel)
    channel.info, channel.store = RankInfo("none", 1, 3), LostStore()  # pyright: ignore[reportAttributeAccessIssue]
    assert channel.silent_ranks() == "2"


def wait_until(reached, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cuda:0 of n1 a", "cuda:0 of n1 a"], "ranks 0 and 1 both have cuda:0 of n1 a"),
        (["cuda:0 of n1 a", "cpu", "cuda:0 of n2 b"], "rank 1 of 3 found no GPU"),
    ],
)
def test_devices_that_do_not_go_together_are_refused(names, message):
    from darts_hpc.distributed.world import _check_devices

    with pytest.raises(ValueError, match=message):
        _check_devices(names)
    _check_devices(["cpu", "cpu"])
    _check_devices(["cuda:0 of n1 a", "cuda:0 of n1 b", "cuda:0 of n2 a"])  # one GPU of its own for each process
