"""Run a benchmark, and report a user's mistake in one line."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake, such as a folder without images, is one line and exit code 2."""
    try:
        main()
    except ValueError as mistake:
        print("error:", " ".join(str(mistake).split()), file=sys.stderr)
        sys.exit(2)
