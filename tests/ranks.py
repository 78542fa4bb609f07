"""Run a function in real processes forked from the test: torch is imported once, not once per process."""

import gc
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from darts_hpc.imports import import_lasting

for name in ("torch._dynamo", "tyro", "darts_hpc.commands.train", "darts_hpc.commands.train_search"):
    import_lasting(name)  # what entries import, once here instead of in every process


def on_ranks(size: int, function: Callable[..., Any], *args: Any, status: int = 0) -> list[Any]:
    """Return function(*args) of each rank (gloo), in rank order. RANK and the like are set as torchrun sets them.

    A rank that fails fails the test, with its traceback. Where every rank is to end early, `status` is how: an exit
    code, or minus a signal.
    """
    _collect_garbage()
    with tempfile.TemporaryDirectory() as folder:
        with own_port() as port:
            children = [_fork(rank, size, port, Path(folder) / str(rank), function, args) for rank in range(size)]
            ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        files = [Path(folder) / str(rank) for rank in range(size)]
        answers = [pickle.loads(file.read_bytes()) for file in files if file.exists()]
    failures = [failure for failure, _ in answers if failure]
    assert not failures, "\n".join(failures)
    assert ends == [status] * size
    return [value for _, value in answers]


def forked(function: Callable[[], object], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a function as a program of its own: return its exit code, as subprocess does, and what it wrote."""
    _collect_garbage()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            _run_program(function, out.fileno(), err.fileno(), environment)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:  # a test's time is up
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess(repr(function), code, *said)


def _collect_garbage() -> None:
    """A fork that finds a pipeline of DALI in its garbage waits for threads that it does not have."""
    gc.collect()
    gc.freeze()  # what is left is not looked through again, which takes a tenth of a second, for the next fork


def _run_program(function: Callable[[], object], out: int, err: int, environment: dict[str, str]) -> NoReturn:
    code = 1
    gc.freeze()
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)  # one of these may be within another
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update(environment)
        function()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fork(rank: int, size: int, port: int, answer: Path, function: Callable[..., Any], args: tuple) -> int:
    child = os.fork()
    if child:
        return child
    gc.freeze()  # the pages of this process are its parent's, until it writes to them as a collection does
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


@contextmanager
def own_port() -> Iterator[int]:
    """Yield a free port that no other call takes meanwhile, in any test process: each holds a name in the kernel too.

    The system gives ports from 32768 on to whoever asks for any.
    """
    while True:
        port = 10000 + secrets.randbelow(10000)
        with socket.socket(socket.AF_UNIX) as name, socket.socket() as probe:
            try:
                name.bind(f"\0darts_hpc tests {port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            probe.close()
            yield port
            return
