"""Run a benchmark as an entry runs, with a user's mistake in one line; types of its arguments."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import torch

from darts_hpc.allocator import keep_freed_memory


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake, such as a folder without images, is one line and exit code 2."""
    keep_freed_memory()
    try:
        main()
    except ValueError as mistake:
        print("error:", " ".join(str(mistake).split()), file=sys.stderr)
        sys.exit(2)


def whole_number(text: str) -> int:
    """Read a whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return number


def device_here(text: str) -> torch.device:
    """Read cpu, cuda or cuda:N, which torch finds here."""
    name, _, index = text.partition(":")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text != "cpu" and not (name == "cuda" and index in ("", *map(str, range(gpus))) and gpus):
        raise ArgumentTypeError(f"{text!r}: expected cpu" + (", cuda or cuda:N" if gpus else "; torch finds no GPU"))
    return torch.device(text)


def new_file(text: str) -> Path:
    """Read the path of a file to write, in a folder that is there."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentTypeError(f"{text!r}: expected a file in a folder that is there")
    return path
