"""Checks that several configs share; each raises ValueError, one line: the flag, its value, what was expected."""

import math
import re
from typing import Any, get_args

MAX_BATCH_SIZE = 1 << 20
"""Images; a larger batch is taken for a mistake, before it takes the memory."""


MAX_SEED = (1 << 63) - 1
UNPACKED = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}
"""The folder that a download is unpacked to -> its data set; --data is the folder above it."""


def check_network(cfg: Any) -> None:
    """Check channels, cells and drop path."""
    if cfg.init_channels < 2 or cfg.init_channels % 2:
        near = max(2, cfg.init_channels - 1)
        raise ValueError(
            f"--init_channels {cfg.init_channels}: expected a positive even number, because a factorized reduction "
            f"makes them in two halves; try {near}"
        )
    if cfg.layers < 3:  # reduction cells stand at layers // 3 and 2 * layers // 3, and a normal cell before them
        raise ValueError(
            f"--layers {cfg.layers}: expected at least 3, so that there are two reduction cells and a normal one"
        )
    if not 0 <= cfg.drop_path_prob < 1:
        raise ValueError(f"--drop_path_prob {cfg.drop_path_prob}: expected a number from 0 up to, but not including, 1")


def check_device(cfg: Any) -> None:
    """Check --device and --gpu by their form; whether there is such a device, World.open knows."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", cfg.device):
        raise ValueError(f"--device {cfg.device!r}: expected auto, cpu, cuda, or cuda:N")
    check_not_negative(cfg, "gpu")


def check_choice(cfg: Any, flag: str, choices: Any) -> None:
    """Check that a flag is one of a Literal's values."""
    if getattr(cfg, flag) not in get_args(choices):
        raise ValueError(f"--{flag} {getattr(cfg, flag)!r}: expected one of {', '.join(get_args(choices))}")


def check_positive(cfg: Any, *flags: str) -> None:
    """Check that flags are above 0, and finite."""
    for flag in flags:
        if not 0 < getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected a number above 0")


def check_at_most(cfg: Any, limit: int, *flags: str) -> None:
    """Check that flags don't exceed a limit."""
    for flag in flags:
        if getattr(cfg, flag) > limit:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected at most {limit}")


def check_not_negative(cfg: Any, *flags: str) -> None:
    """Check that flags are 0 or above, and finite."""
    for flag in flags:
        if not 0 <= getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected 0 or a number above 0")


def check_data_folder(cfg: Any) -> None:
    """Check that --data is not the very folder that a download was unpacked to, which would be downloaded anew."""
    folder = cfg.data.resolve()
    dataset = UNPACKED.get(folder.name)
    is_downloaded = cfg.dataset not in ("digits", "folder")
    if dataset and is_downloaded and folder.is_dir() and not (folder / folder.name).exists():
        above = cfg.data.parent if cfg.data.name == folder.name else folder.parent
        other = f" --dataset {dataset}" if cfg.dataset != dataset else ""
        raise ValueError(f"--data {cfg.data}: expected the folder in which {folder.name} lies: --data {above}{other}")
