"""A row of the table of faults, and the commands and faults that rows are made of."""

import ctypes
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CAPABILITIES_V3 = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

Fault = Callable[[Path, Path], object]
"""Places a fault, of things.py's folder and an empty one."""


@dataclass(frozen=True)
class Row:
    """A fault. In words, {things} is things.py's folder and {new} an empty one, where the command starts.

    command: the entry and its flags. said: a part of the line that it is refused with. fault: places it in {new}.
    before: what the process does first. code: how it ends. finishes: the run of things.py that it ends as, bit for bit,
    and with its records too unless those were lost.
    """

    name: str
    command: tuple[str, ...]
    said: str = ""
    fault: Fault = lambda things, new: None
    before: Callable[[], object] = lambda: None
    code: int = 2
    runs: bool = False
    finishes: str = ""
    loses_records: bool = False


SEARCH = ("train_search", "--config", "{things}/presets/search.yaml")
TRAIN = ("train", "--config", "{things}/presets/train.yaml")
IMAGENET = ("train_imagenet", "--config", "{things}/presets/imagenet.yaml", "--loader", "torchvision", "--workers", "0")
EVALUATE = (
    *("evaluate", "--arch", "DARTS_V1", "--dataset", "digits", "--image_size", "4", "--init_channels", "4"),
    *("--layers", "3", "--device", "cpu"),
)
NEW_RUN = ("--save", "{new}/run/")
GO_ON = (*TRAIN, *NEW_RUN, "--resume", "auto", "--checkpoint_freq", "1")


def arch(cell: str) -> tuple[str, ...]:
    """Train a cell."""
    return (*TRAIN, "--arch", cell)


def config(preset: str) -> tuple[str, ...]:
    """Train as a preset says."""
    return ("train", "--config", preset)


def without_privileges() -> None:
    """Be kept out of others' folders, as root is not by default (man 2 capset); Python's own files stay root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    version, sets = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(version, sets) == 0
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        sets[0] &= ~(1 << capability)
    assert libc.capset(version, sets) == 0


def copied(things: Path, new: Path, run: str) -> Path:
    """Copy a run to {new}/run."""
    return Path(shutil.copytree(things / run, new / "run"))


def replaced(path: Path, put: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    put(path)


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def to_device(path: Path) -> None:
    """Make a link to a device that never ends."""
    path.symlink_to("/dev/zero")


def terabyte(path: Path) -> None:
    """Make a file of a terabyte, of which nothing is on the disk."""
    path.touch()
    os.truncate(path, 1 << 40)
