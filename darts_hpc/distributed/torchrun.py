"""torchrun as the launch scripts and campaigns use it: python -m darts_hpc.distributed.torchrun takes its arguments.

Other than torch's own torchrun,

- it ends with the exit code of its workers: torch's ends with 1 and a traceback of its own code. A user's mistake and a
  stop by a signal, which a worker has reported in one line, end with 2 and 128 + n, and nothing more;
- it passes on every signal that asks a run to stop, and gives it time to save, but leaves an ignored SIGHUP ignored, as
  nohup wants it;
- with --standalone its store listens at the loopback address alone, and not at every one: whoever reaches that store
  can have torchrun unpickle what they like.
"""

import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.run import main

from darts_hpc.distributed.addresses import LOOPBACK, listen_on_loopback
from darts_hpc.distributed.launcher import MISTAKE
from darts_hpc.terminal import outlive_terminal

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals at which a run saves and stops."""


BACKEND = "loopback"


class LoopbackBackend(C10dRendezvousBackend):
    """torch's backend, under the name by which torchrun selects this one."""

    @property
    def name(self) -> str:
        """Return that name."""
        return BACKEND


def exit_code(error: ChildFailedError | SignalException) -> int:
    """Return 2 for a user's mistake, 128 + n for a stop by signal n, else 1."""
    if isinstance(error, SignalException):
        return 2 if error.sigval == MISTAKE else 128 + error.sigval
    ends = [failure.exitcode for failure in error.failures.values()]
    return next((code for code in (2, *(128 + number for number in STOPS)) if code in ends), 1)


def with_defaults(arguments: Sequence[str]) -> list[str]:
    """Return torchrun's arguments after a run's defaults, which the user's own override."""
    handled = [*STOPS, signal.SIGQUIT, MISTAKE]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        handled.remove(signal.SIGHUP)
    names = ",".join(number.name for number in handled)
    arguments = [f"--rdzv-backend={BACKEND}" if one == "--standalone" else one for one in arguments]
    return [f"--signals-to-handle={names}", "--shutdown-timeout=300", *arguments]


def loopback_rendezvous(params: RendezvousParameters) -> RendezvousHandler:
    """Return the rendezvous of a single torchrun, at a store that it hosts itself."""
    listening = listen_on_loopback()
    port = listening.getsockname()[1]
    store = TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    params.local_addr = LOOPBACK
    return create_handler(store, LoopbackBackend(store, params.run_id), params)


if __name__ == "__main__":
    outlive_terminal()
    # A worker that died leaves its address in the store that torchrun shares, and the restarted group fails on it.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    rendezvous_handler_registry.register(BACKEND, loopback_rendezvous)
    try:
        main(with_defaults(sys.argv[1:]))
    except (ChildFailedError, SignalException) as error:
        code = exit_code(error)
        if code == 1:
            print(error, file=sys.stderr)
        sys.exit(code)
