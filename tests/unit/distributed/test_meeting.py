"""At a port of another program no process waits for ever: each ends, and one line per node says why."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ranks import forked, on_ranks
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from darts_hpc.config.cli import refuse
from darts_hpc.distributed import elastic, meeting
from darts_hpc.distributed.error_channel import ErrorChannel
from darts_hpc.distributed.launcher import RankInfo
from darts_hpc.distributed.meeting import join_store
from darts_hpc.distributed.world import World

ANSWERS = {"silent": None, "closes": b"", "ssh": b"SSH-2.0-OpenSSH_9.2\r\n"}


@contextlib.contextmanager
def foreign_program(kind: str) -> Iterator[int]:
    """A program that accepts connections, and says nothing, hangs up, or says something else; yields its port."""
    held = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(listening.accept()[0])
                if ANSWERS[kind] is not None:
                    held[-1].sendall(ANSWERS[kind])
                    held.pop().close()

    with socket.socket() as listening:
        listening.bind(("", 0))
        listening.listen()
        if kind in ANSWERS:
            threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def impatient(function: Callable[[], object]) -> Callable[[], object]:
    """A function in a process that waits for an answer for less than a second."""

    def run() -> object:
        meeting.ANSWER_S, meeting.LOOK_S = 0.5, 0.1
        return function()

    return run


@pytest.mark.parametrize("kind", [*ANSWERS, "accepts nothing"])
def test_a_store_is_not_waited_for_at_a_port_of_another_program(kind):
    def join() -> None:
        try:
            join_store("127.0.0.1", port, timeout_s=600)
        except ConnectionError as error:
            print(error)

    with foreign_program(kind) as port:
        assert forked(impatient(join)).stdout == "is in use by another program\n"


def test_where_nothing_listens_the_wait_has_an_end():
    with socket.socket() as unused, pytest.raises(ConnectionError, match="can't be reached"):
        unused.bind(("127.0.0.1", 0))
        join_store("127.0.0.1", unused.getsockname()[1], timeout_s=0.1)


@pytest.mark.parametrize(("nodes", "lines"), [(1, 1), (2, 2)])
def test_all_ranks_end_at_a_port_of_another_program_with_one_line_per_node(nodes, lines, capfd):
    def meet() -> None:
        os.environ["MASTER_PORT"] = str(port)
        if nodes == 2:
            os.environ.update(LOCAL_WORLD_SIZE="1", LOCAL_RANK="0")
        try:
            with World.open("cpu"):
                pass
        except ValueError as error:
            refuse(error)

    with foreign_program("silent") as port:
        on_ranks(2, impatient(meet), status=2)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == lines
    assert all(
        line.startswith(f"error: port {port} of 127.0.0.1, where the 2 processes meet, is in use") for line in said
    )


def test_torchrun_of_nodes_ends_at_a_port_of_another_program_in_one_line():
    def launch() -> None:
        nodes = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
        elastic.launch([*nodes, "--no-python", "true"])

    with foreign_program("silent") as port:
        done = forked(impatient(launch))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"error: port {port} of localhost, where the nodes meet, is in use by another program" in done.stderr


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match=r"waited 0 s in vain for rank 1, 2; start again"):
        ErrorChannel(RankInfo("torchrun", 0, 3, 0, "127.0.0.1", port, on_one_node=True), timeout_s=0.1)


def test_ranks_that_are_restarted_meet_anew_at_the_store_of_a_plain_torchrun():
    """Which outlives them, with all that they left in it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def start(count: int) -> None:
        os.environ.update(MASTER_PORT=str(store.port), TORCHELASTIC_USE_AGENT_STORE="True")
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(count)
        if count == 1 and os.environ["RANK"] == "1":
            time.sleep(0.5)  # so that the other would take the dead one's address for its own
        with World.open("cpu") as world:
            world.barrier()
            if count == 0:
                sys.exit(3)  # killed, as it were
            assert world.gather_objects(world.rank) == [0, 1]

    on_ranks(2, start, 0, status=3)
    on_ranks(2, start, 1)
