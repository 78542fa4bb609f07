"""torchrun with the exit code of its workers: python -m darts_hpc.distributed.torchrun takes torchrun's arguments.

torch's own ends with 1 and a traceback of its own code, whatever its workers ended with. Here a user's mistake, which a
worker has told in one line, ends with 2 and nothing more.
"""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from darts_hpc.distributed.launcher import MISTAKE


def exit_code(error: ChildFailedError | SignalException) -> int:
    """Return 2 for a user's mistake, 128 + n for signal n, else 1."""
    if isinstance(error, SignalException):
        return 2 if error.sigval == MISTAKE else 128 + error.sigval
    return 2 if 2 in [failure.exitcode for failure in error.failures.values()] else 1


if __name__ == "__main__":
    try:
        main()
    except (ChildFailedError, SignalException) as error:
        code = exit_code(error)
        if code == 1:
            print(error, file=sys.stderr)
        sys.exit(code)
