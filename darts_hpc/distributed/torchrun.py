"""torchrun with the exit code of its workers: python -m darts_hpc.distributed.torchrun takes torchrun's arguments.

torch's own ends with 1 and a traceback of its own code, whatever its workers ended with. Here a user's mistake and a
stop by a signal, which a worker has reported in one line, end with 2 and 128 + n, and nothing more.
"""

import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from darts_hpc.distributed.launcher import MISTAKE

STOPPED = [128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]


def exit_code(error: ChildFailedError | SignalException) -> int:
    """Return 2 for a user's mistake, 128 + n for a stop by signal n, else 1."""
    if isinstance(error, SignalException):
        return 2 if error.sigval == MISTAKE else 128 + error.sigval
    ends = [failure.exitcode for failure in error.failures.values()]
    return next((code for code in (2, *STOPPED) if code in ends), 1)


if __name__ == "__main__":
    try:
        main()
    except (ChildFailedError, SignalException) as error:
        code = exit_code(error)
        if code == 1:
            print(error, file=sys.stderr)
        sys.exit(code)
