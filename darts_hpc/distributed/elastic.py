"""torch's elastic agent with a run's defaults, exit codes and rendezvous: what torchrun.py starts."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousError,
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.run import main

from darts_hpc.distributed.addresses import LOOPBACK, is_own, listen_on_loopback, own_address
from darts_hpc.distributed.agent_stops import heed_every_stop, ignore_stops
from darts_hpc.distributed.launcher import MISTAKE, STOPS
from darts_hpc.distributed.meeting import join_store

ONE_NODE, NODES = "one_node", "nodes"
"""Our backends of a rendezvous: for --standalone, and for --rdzv-backend=c10d."""
HANDLED = [*STOPS, signal.SIGQUIT, MISTAKE]
DEFAULT_PORT = 29400
SECONDS_TO_REACH_THE_HEAD = 60.0


class NamedBackend(C10dRendezvousBackend):
    """torch's backend, under the name by which torchrun selects ours."""

    def __init__(self, name: str, store: TCPStore, run_id: str):
        self._name = name
        super().__init__(store, run_id)

    @property
    def name(self) -> str:
        """Return that name."""
        return self._name


def launch(arguments: Sequence[str]) -> NoReturn:
    """Do what torchrun does with its arguments, and end with the exit code of its workers."""
    # A worker that died leaves its address in the store that torchrun shares, and the restarted group fails on it.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    socket.getfqdn = lambda name="": name or socket.gethostname()  # for torch's event log alone; minutes without DNS
    rendezvous_handler_registry.register(ONE_NODE, rendezvous_on_one_node)
    rendezvous_handler_registry.register(NODES, rendezvous_of_nodes)
    heed_every_stop()
    code = 0
    try:
        try:
            main(with_defaults(arguments))
        finally:  # from here on there is nothing to stop
            ignore_stops(HANDLED)
    except (ChildFailedError, SignalException) as error:
        code = exit_code(error)
        if code == 1:
            print(error, file=sys.stderr)
    except ConnectionError as error:
        code = 2
        print("error:", error, file=sys.stderr)
    except RendezvousError as error:
        code = 1
        print(f"error: the nodes did not meet ({type(error).__name__}: {error}); start again", file=sys.stderr)
    sys.exit(code)


def exit_code(error: ChildFailedError | SignalException) -> int:
    """Return 2 for a user's mistake, 128 + n for a stop by signal n, else 1.

    Workers that die of a stop are stopped too, before they could handle it; but not those that torchrun ends after
    another one's failure.
    """
    if isinstance(error, SignalException):
        return 2 if error.sigval == MISTAKE else 128 + error.sigval
    ends = [failure.exitcode for failure in error.failures.values()]
    found = next((code for code in (2, *(128 + number for number in STOPS)) if code in ends), 1)
    if found == 1 and all(-end in STOPS for end in ends):
        return 128 - ends[0]
    return found


def with_defaults(arguments: Sequence[str]) -> list[str]:
    """Return torchrun's arguments after a run's defaults, which the user's own override."""
    ignores_hang_up = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    names = ",".join(number.name for number in HANDLED if not (ignores_hang_up and number == signal.SIGHUP))
    ours = {"--standalone": f"--rdzv-backend={ONE_NODE}", "--rdzv-backend=c10d": f"--rdzv-backend={NODES}"}
    arguments = [ours.get(argument, argument) for argument in arguments]
    return [f"--signals-to-handle={names}", "--shutdown-timeout=300", *arguments]


def rendezvous_on_one_node(params: RendezvousParameters) -> RendezvousHandler:
    """Return the rendezvous of a single torchrun, at a store that it hosts itself."""
    listening = listen_on_loopback()
    port = listening.getsockname()[1]
    store = TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    params.local_addr = LOOPBACK
    return create_handler(store, NamedBackend(ONE_NODE, store, params.run_id), params)


def rendezvous_of_nodes(params: RendezvousParameters) -> RendezvousHandler:
    """Return the rendezvous of a torchrun per node, at a store of the head's, which the endpoint names.

    Raises ConnectionError, one line, where its port is another program's, or can't be reached.
    """
    head, port = parse_rendezvous_endpoint(params.endpoint, DEFAULT_PORT)
    try:
        store = _store_of_nodes(head, port)
    except ConnectionError as error:
        raise ConnectionError(
            f"port {port} of {head}, where the nodes meet, {error}; start again, with another port"
        ) from None
    params.local_addr = params.local_addr or own_address(head)
    return create_handler(store, NamedBackend(NODES, store, params.run_id), params)


def _store_of_nodes(head: str, port: int) -> TCPStore:
    if not is_own(head):
        return join_store(head, port, SECONDS_TO_REACH_THE_HEAD)
    try:
        return join_store(LOOPBACK, port, SECONDS_TO_REACH_THE_HEAD, is_master=True, multi_tenant=True)
    except ConnectionError:  # it may be that of another torchrun of this rendezvous, on the same node
        return join_store(LOOPBACK, port, SECONDS_TO_REACH_THE_HEAD)
