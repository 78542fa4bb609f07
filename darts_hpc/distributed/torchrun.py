"""torchrun as the launch scripts and campaigns use it: python -m darts_hpc.distributed.torchrun takes its arguments.

Other than torch's own torchrun,

- it ends with the exit code of its workers: torch's ends with 1 and a traceback of its own code. A user's mistake and a
  stop by a signal, which a worker has reported in one line, end with 2 and 128 + n, and nothing more;
- it passes on every signal that asks a run to stop, and gives it time to save, but leaves an ignored SIGHUP ignored, as
  nohup wants it. Before there are workers, such a signal ends it, also while it still imports torch;
- with --standalone its store listens at the loopback address alone, and not at every one: whoever reaches that store
  can have torchrun unpickle what they like;
- it needs no name server that knows this node, and does not wait for ever at a port of another program.
"""

import os
import signal
import sys
from types import FrameType

from darts_hpc.distributed.launcher import STOPS
from darts_hpc.imports import import_lasting
from darts_hpc.terminal import outlive_terminal


def handle_stops() -> None:
    """End this process at a stop, until torch takes the signals over when it starts workers."""
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for each in STOPS:  # schedulers send several, and a second one amid the line below would be an error of Python's
        signal.signal(each, signal.SIG_IGN)
    print(f"stopped by {signal.Signals(number).name} before the processes were started", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":
    outlive_terminal()
    handle_stops()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings have the form of tracebacks
    import_lasting("darts_hpc.distributed.elastic")  # imports torch: seconds
    from darts_hpc.distributed import elastic

    elastic.launch(sys.argv[1:])
