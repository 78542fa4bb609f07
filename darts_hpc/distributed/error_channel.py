"""Report a user's mistake from any rank to all, beside the collectives: every rank exits, and one prints it."""

import os
import sys
import threading
import time

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from darts_hpc.distributed.addresses import LOOPBACK, is_own, listen_on_loopback
from darts_hpc.distributed.launcher import POLL_S, RankInfo, stop_restarts
from darts_hpc.distributed.meeting import join_store

SECONDS_TO_LEAVE = 1.0
"""How long a rank may take to leave by itself after another one's mistake."""
SECONDS_UNTIL_SAID = 15.0
"""How long the others are waited for in silence."""
SECONDS_TO_ARRIVE = 5.0
"""How long a mistake may take to get to every rank."""


class ErrorChannel:
    """The store of a run's processes, and a thread that watches for what no collective reports.

    A mistake on any rank ends every rank with exit code 2, and rank 0 prints it.
    """

    def __init__(self, info: RankInfo, timeout_s: float):
        """Join the store, at which rank 0 listens, and wait for all ranks.

        Raises ValueError, on one rank per node, when its port is taken or can't be reached, or a rank does not come;
        the other ranks of a node end.
        """
        self.info = info
        address = LOOPBACK if is_own(info.address) else info.address  # a node need not know its own name
        self._closed, self._lock = threading.Event(), threading.Lock()
        try:
            self.store = _keys_of_this_start(info, _join(info, address, timeout_s))
            self._mistakes = _keys_of_this_start(info, join_store(address, info.port, timeout_s))  # the thread's
            self._wait_for_all(timeout_s)
        except OSError as error:
            if info.local_rank != 0:  # which says the same
                sys.exit(2)
            raise ValueError(
                f"port {info.port} of {info.address}, where the {info.size} processes meet, {error}; "
                f"start again{', with another port' if info.launcher == 'torchrun' else ''}"
            ) from None
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

    def silent_ranks(self) -> str:
        """Return the ranks on which no collective failed within a moment, as one did here: they hang, or are gone."""
        deadline, missing = time.monotonic() + SECONDS_TO_ARRIVE / 2, ""
        try:
            self.store.set(f"failed/{self.info.rank}", "")
            while (missing := self._missing("failed")) and time.monotonic() < deadline:
                time.sleep(POLL_S / 5)
        except (dist.DistError, RuntimeError):  # the store is gone: rank 0 left, maybe after it waited here as well
            return missing or "0"
        return missing

    def exchange(self, key: str, value: str) -> list[str]:
        """Return every rank's value."""
        self.store.set(f"{key}/{self.info.rank}", value)
        return [self.store.get(f"{key}/{rank}").decode() for rank in range(self.info.size)]

    def _wait_for_all(self, timeout_s: float) -> None:
        """Raise OSError where a rank does not come; say before long which are waited for.

        Ctrl-C ends the waiting, which it does not in torch's own.
        """
        self.store.set(f"joined/{self.info.rank}", "")
        began, is_said = time.monotonic(), self.info.rank != 0
        while missing := self._missing("joined"):
            if time.monotonic() > began + timeout_s:
                raise OSError(f"waited {timeout_s:.0f} s in vain for rank {missing}")
            if not is_said and time.monotonic() > began + SECONDS_UNTIL_SAID:
                of_all = f"of the {self.info.size} processes that {self.info.launcher} started, as it says"
                print(f"waiting for rank {missing} {of_all}", file=sys.stderr, flush=True)
                is_said = True
            time.sleep(POLL_S / 10)

    def _missing(self, key: str) -> str:
        ranks = range(self.info.size)
        if self.store.check([f"{key}/{rank}" for rank in ranks]):
            return ""
        return ", ".join(str(rank) for rank in ranks if not self.store.check([f"{key}/{rank}"]))

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
            with self._lock:  # for good: the main thread, if it comes to the same mistake, waits for the end
                if self._closed.is_set():
                    continue
                if self.info.rank == 0:
                    print("error:", " ".join(reported.split()), file=sys.stderr, flush=True)
                self._acknowledge()
                if self.info.rank == 0:
                    stop_restarts()
                os._exit(2)


def _join(info: RankInfo, address: str, timeout_s: float) -> TCPStore:
    """Return the store where all ranks meet; the first one hosts it, unless torchrun does."""
    if info.rank != 0 or info.agent_listens:
        return join_store(address, info.port, timeout_s)
    try:
        listening = {"master_listen_fd": listen_on_loopback(info.port).detach()} if info.on_one_node else {}
    except OSError:
        raise ConnectionError("is in use by another program") from None
    return join_store(address, info.port, timeout_s, is_master=True, **listening)


def _keys_of_this_start(info: RankInfo, store: TCPStore) -> Store:
    """Return a store of keys that no earlier start of these processes has set: torchrun's outlives a restart."""
    return PrefixStore(f"start/{os.environ['TORCHELASTIC_RESTART_COUNT']}", store) if info.agent_listens else store
