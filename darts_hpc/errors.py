"""Errors that more than one layer knows by their meaning."""

from pathlib import Path


class ExplainedError(ValueError):
    """One line, as of any ValueError, and text that is shown below it, such as a table."""

    def __init__(self, line: str, explanation: str):
        super().__init__(line)
        self.explanation = explanation


class Stopped(Exception):
    """A signal asked a run to stop: it has done its step, and closed its files. run_entry ends with 128 + number.

    number: the signal. folder: the run's, with the checkpoint to go on from.
    """

    def __init__(self, number: int, folder: Path, line: str):
        super().__init__(line)
        self.number, self.folder = number, folder


class Diverged(ValueError):
    """A number that a run goes on from, or reports, is not finite any more."""


REFUSALS = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "Cannot allocate memory",
    "could not create a memory",
    "could not create a primitive",  # for want of memory to compile it into
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
)
"""What allocators say: of CUDA, of the CPU, of C++, of the system, of oneDNN, of cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, of the GPU or of the machine."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    return isinstance(error, RuntimeError | OSError) and any(refusal in str(error) for refusal in REFUSALS)


class RolledBack(MemoryError):
    """Memory ran out, and everything is as it was after the last step."""
