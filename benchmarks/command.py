"""How a benchmark ends when it is asked for what can't be."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake, such as a folder without images, is one line and exit code 2."""
    try:
        main()
    except ValueError as mistake:
        print("error:", " ".join(str(mistake).split()), file=sys.stderr)
        sys.exit(2)
