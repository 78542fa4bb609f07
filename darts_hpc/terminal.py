"""Writing to a terminal that may go away: a closed session, a full disk behind 2>, or a head that has seen enough."""

import contextlib
import os
import sys
from typing import Any, TextIO


class LastingStream:
    """A stream that swallows what can't be written any more, from its first failure on. What runs goes on."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or let go."""
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flush, or let go."""
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _let_go(self) -> None:
        """Point the descriptor at /dev/null, which takes what is still buffered, and what libraries write to it."""
        with contextlib.suppress(OSError, ValueError):  # the latter where it has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()


def outlive_terminal(*, stdout: bool = False) -> None:
    """Let nothing that is said on stderr end this process; nor on stdout, where that is no more than a report.

    A command whose output is its purpose keeps its stdout as it is, and fails with it.
    """
    sys.stderr = _lasting(sys.stderr)
    if stdout:
        sys.stdout = _lasting(sys.stdout)


def _lasting(stream: Any) -> Any:
    is_closed = stream is None  # Python's word for a descriptor that was closed before it started
    return stream if is_closed or isinstance(stream, LastingStream) else LastingStream(stream)
