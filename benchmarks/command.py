"""Run a benchmark as an entry runs, with a user's mistake in one line."""

import sys
from collections.abc import Callable

from darts_hpc.allocator import keep_freed_memory


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake, such as a folder without images, is one line and exit code 2."""
    keep_freed_memory()
    try:
        main()
    except ValueError as mistake:
        print("error:", " ".join(str(mistake).split()), file=sys.stderr)
        sys.exit(2)
