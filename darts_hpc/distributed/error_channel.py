"""Report a user's mistake from any rank to all, beside the collectives: every rank exits, and one prints it."""

import datetime
import os
import sys
import threading
import time

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from darts_hpc.distributed.addresses import listen_on_loopback
from darts_hpc.distributed.launcher import POLL_S, RankInfo, stop_restarts

SECONDS_TO_LEAVE = 1.0
"""How long a rank may take to leave by itself after another one's mistake."""
SECONDS_TO_ARRIVE = 5.0
"""How long a mistake may take to get to every rank."""


class ErrorChannel:
    """The store of a run's processes, and a thread that watches for what no collective reports.

    A mistake on any rank ends every rank with exit code 2, and rank 0 prints it.
    """

    def __init__(self, info: RankInfo, timeout_s: float):
        """Join the store, at which rank 0 listens. Raises ValueError when its port is taken, or can't be reached."""
        self.info = info
        timeout = datetime.timedelta(seconds=timeout_s)
        try:
            self.store = _join(info, timeout)
            connection = TCPStore(info.address, info.port, None, False, timeout)  # the thread's own connection
        except (dist.DistNetworkError, OSError) as error:
            taken = "EADDRINUSE" in str(error) or "already in use" in str(error)
            reason = "is in use by another program" if taken else "can't be reached"
            raise ValueError(
                f"port {info.port} of {info.address}, where the {info.size} processes meet, {reason}; "
                f"start again{', with another port' if info.launcher == 'torchrun' else ''}"
            ) from None
        # By restart: a restarted group may meet at the same store, and must not see an old mistake.
        self._mistakes = PrefixStore(f"darts_hpc/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", connection)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def leave(self, mistake: str) -> None:
        """Report a mistake to every rank, and give it time to arrive. Returns on rank 0 only: the others end here.

        They end after rank 0 had time to print it: a launcher that sees one gone kills the rest.
        """
        self.close()
        with self._lock:
            try:
                self._mistakes.compare_set("mistake", "", self._signed(mistake))
                self._acknowledge()
            except (dist.DistError, RuntimeError):  # the store is gone, and with it rank 0
                pass
        if self.info.rank != 0:
            time.sleep(2 * SECONDS_TO_LEAVE)
            os._exit(2)

    def mistake(self) -> str | None:
        """Return the mistake that a rank reported, if one did so within a moment: it may be why a collective failed."""
        deadline = time.monotonic() + SECONDS_TO_ARRIVE / 2
        while time.monotonic() < deadline:
            reported = self._reported()
            if reported is not None:
                return reported
            time.sleep(POLL_S / 5)
        return None

    def exchange(self, key: str, value: str) -> list[str]:
        """Return every rank's value."""
        self.store.set(f"{key}/{self.info.rank}", value)
        return [self.store.get(f"{key}/{rank}").decode() for rank in range(self.info.size)]

    def _signed(self, mistake: str) -> str:
        return mistake if self.info.rank == 0 else f"rank {self.info.rank}: {mistake}"

    def _acknowledge(self) -> None:
        """Mark this rank as informed; rank 0 waits until all are, because the store ends with it."""
        self._mistakes.set(f"informed/{self.info.rank}", "")
        everyone = [f"informed/{rank}" for rank in range(self.info.size)]
        deadline = time.monotonic() + SECONDS_TO_ARRIVE
        while self.info.rank == 0 and not self._mistakes.check(everyone) and time.monotonic() < deadline:
            time.sleep(POLL_S / 5)

    def _reported(self) -> str | None:
        with self._lock:
            try:
                return self._mistakes.get("mistake").decode() if self._mistakes.check(["mistake"]) else None
            except (dist.DistError, RuntimeError):
                return None

    def _watch(self) -> None:
        while not self._closed.wait(POLL_S):
            reported = self._reported()
            if reported is None or self._closed.wait(SECONDS_TO_LEAVE):  # the main thread may be on its way out
                continue
            if self.info.rank == 0:
                print("error:", " ".join(reported.split()), file=sys.stderr, flush=True)
            with self._lock:
                self._acknowledge()
            if self.info.rank == 0:
                stop_restarts()
            os._exit(2)


def _join(info: RankInfo, timeout: datetime.timedelta) -> TCPStore:
    """Return the store where all ranks meet; the first one hosts it, unless torchrun does."""
    hosts = info.rank == 0 and not info.agent_listens
    listening = listen_on_loopback(info.port).detach() if hosts and info.on_one_node else None
    return TCPStore(info.address, info.port, info.size, hosts, timeout, master_listen_fd=listening)
