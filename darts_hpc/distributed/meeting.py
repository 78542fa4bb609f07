"""Join the store where processes meet, within a time limit: whatever listens at its port, no process waits for ever."""

import contextlib
import datetime
import queue
import socket
import threading
import time
from typing import Any

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

ANSWER_S = 30.0
"""How long a store may take to answer once its port accepts connections. torch itself waits without a limit."""
LOOK_S = 1.0


def join_store(address: str, port: int, timeout_s: float, **hosting: Any) -> TCPStore:
    """Return a connection to the store at a port.

    Args:
        address: of the node whose process hosts it.
        port: where that listens.
        timeout_s: how long to wait for the store, and later for each of its answers.
        hosting: TCPStore's arguments in the process that hosts it, such as is_master=True.

    Raises ConnectionError where the port is another program's, or nothing listens there in time.
    """
    answer: queue.SimpleQueue[TCPStore | Exception] = queue.SimpleQueue()
    timeout = datetime.timedelta(seconds=timeout_s)

    def connect() -> None:
        try:
            answer.put(TCPStore(address, port, timeout=timeout, wait_for_workers=False, **hosting))
        except (RuntimeError, ValueError, OSError) as error:
            answer.put(error)

    threading.Thread(target=connect, daemon=True).start()
    deadline, joined = time.monotonic() + timeout_s + ANSWER_S, None
    while joined is None and time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            joined = answer.get(timeout=LOOK_S)
        if joined is None and _accepts(address, port):
            deadline = min(deadline, time.monotonic() + ANSWER_S)
    if isinstance(joined, TCPStore):
        return joined
    taken = "EADDRINUSE" in str(joined) or "already in use" in str(joined) or _accepts(address, port)
    raise ConnectionError("is in use by another program" if taken else "can't be reached")


def _accepts(address: str, port: int) -> bool:
    """Whether anything accepts connections there, which need not be a store."""
    try:
        socket.create_connection((address, port), timeout=LOOK_S).close()
    except OSError:
        return False
    return True
