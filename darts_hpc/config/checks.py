"""Checks that several configs share; each raises ValueError, one line: the flag, its value, what was expected."""

import math
import re
from typing import Any, get_args

from darts_hpc.user_files import check_path, exists, is_folder, resolved, shown

MAX_SEED = (1 << 63) - 1
LARGEST = {
    "batch_size": 1 << 20,
    "valid_batch_size": 1 << 20,
    "global_batch_size": 1 << 24,
    "image_size": 4096,
    "resize": 8192,
    "cutout_length": 4096,
    "init_channels": 4096,
    "layers": 1000,
    "epochs": 1_000_000,
    "select_epochs": 1_000_000,
    "num_threads": 1024,
    "prefetch": 1024,
    "synthetic_images": 1 << 28,
    "synthetic_classes": 1 << 20,
    "shard_mb": 1_000_000,
    "random_cells": 10_000,
    "random_seed": MAX_SEED >> 1,
    "gpus_per_job": 1024,
    "cpus_per_job": 4096,
    "jobs": 100_000,
    "retries": 1000,
    "hours": 100_000,
    "poll_seconds": 86_400,
    "seed": MAX_SEED,
    "select_seed": MAX_SEED,
}
"""flag -> the largest value that makes sense; a larger one is a slip, and would overflow or take all memory."""
LARGEST_OTHER = 1_000_000_000
"""Of any other count."""
LARGEST_FACTOR = 3e38
"""Of a rate or a factor: what float32 holds. What a large one does to a run, the check for finite numbers says."""
LONGEST_SAVE = 150
"""Bytes of a run's name; its folder's has the entry, the time and the job beside it."""
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
    check_at_most(cfg, "init_channels", "layers")
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
    """Check that flags are above 0, and no larger than makes sense."""
    for flag in flags:
        if not 0 < getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected a number above 0")
    check_at_most(cfg, *flags)


def check_not_negative(cfg: Any, *flags: str) -> None:
    """Check that flags are 0 or above, and no larger than makes sense."""
    for flag in flags:
        if not 0 <= getattr(cfg, flag) < math.inf:
            raise ValueError(f"--{flag} {getattr(cfg, flag)}: expected 0 or a number above 0")
    check_at_most(cfg, *flags)


def check_at_most(cfg: Any, *flags: str) -> None:
    """Check that flags don't exceed what makes sense of them."""
    for flag in flags:
        value = getattr(cfg, flag)
        limit = LARGEST.get(flag, LARGEST_OTHER if isinstance(value, int) else LARGEST_FACTOR)
        if value > limit:
            raise ValueError(f"--{flag} {shown(value)}: expected at most {limit}")


def check_save(cfg: Any) -> None:
    """Check that a run's name, where --save is no path, leaves room for the rest of its folder's."""
    length = len(cfg.save.encode())
    if "/" not in cfg.save and length > LONGEST_SAVE:
        raise ValueError(
            f"--save {shown(cfg.save)}: a name of {length} bytes; expected at most {LONGEST_SAVE}: shorten it"
        )
    if cfg.save in ("", ".", ".."):
        raise ValueError(f"--save {cfg.save!r}: expected a name, or a path with a slash in it")


def check_destination(cfg: Any) -> None:
    """Check that a copy of --source's images goes to another folder."""
    for path in (cfg.source, cfg.destination):
        check_path(path)
    source, destination = resolved(cfg.source), resolved(cfg.destination)
    if destination.is_relative_to(source):
        where = "is the source itself" if destination == source else f"lies in the source {shown(cfg.source)}"
        raise ValueError(f"{shown(cfg.destination)} {where}; choose a folder outside of it")
    if source.is_relative_to(destination):
        raise ValueError(
            f"{shown(cfg.destination)} holds the source {shown(cfg.source)}; choose a folder for the copy alone"
        )


def check_data_folder(cfg: Any) -> None:
    """Check that --data is not the very folder that a download was unpacked to, which would be downloaded anew."""
    check_path(cfg.data, "--data")
    folder = resolved(cfg.data)
    dataset = UNPACKED.get(folder.name)
    is_downloaded = cfg.dataset not in ("digits", "folder")
    if dataset and is_downloaded and is_folder(folder) and not exists(folder / folder.name):
        above = cfg.data.parent if cfg.data.name == folder.name else folder.parent
        other = f" --dataset {dataset}" if cfg.dataset != dataset else ""
        raise ValueError(f"--data {cfg.data}: expected the folder in which {folder.name} lies: --data {above}{other}")
