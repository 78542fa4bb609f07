"""Run a function on several real processes (gloo), forked from the test: torch is imported once, not once a rank."""

import gc
import os
import pickle
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock


def on_ranks(size: int, function: Callable[..., Any], *args: Any, status: int = 0) -> list[Any]:
    """Return function(*args) of each rank, in rank order. RANK and the like are set as torchrun sets them.

    A rank that fails fails the test, with its traceback. Where every rank is to end early, `status` is how: an exit
    code, or minus a signal.
    """
    gc.collect()  # a rank that finds a pipeline of DALI in its garbage waits for threads that no fork has
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        children = [_fork(rank, size, port, Path(folder) / str(rank), function, args) for rank in range(size)]
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        files = [Path(folder) / str(rank) for rank in range(size)]
        answers = [pickle.loads(file.read_bytes()) for file in files if file.exists()]
    failures = [failure for failure, _ in answers if failure]
    assert not failures, "\n".join(failures)
    assert ends == [status] * size
    return [value for _, value in answers]


def _fork(rank: int, size: int, port: int, answer: Path, function: Callable[..., Any], args: tuple) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
        with mock.patch.dict(os.environ, {name: str(value) for name, value in {**place, **address}.items()}):
            try:
                outcome = None, function(*args)
            except SystemExit as stop:
                os._exit(stop.code if isinstance(stop.code, int) else 1)
            except BaseException:
                outcome = f"rank {rank}:\n{traceback.format_exc()}", None
        answer.write_bytes(pickle.dumps(outcome))
        code = 0
    finally:
        os._exit(code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
