"""Run an entry for one epoch of 200 steps on made-up images, and print how fast it was after the first ones.

    python benchmarks/gpu/entry_steps.py train_search|train|train_imagenet|train_imagenet_dali [--quick]

Networks and batches are the paper's; train has --auxiliary --cutout. What happens is what the command does, from its
flags to its result; numbers are those of its performance.jsonl. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from command import run
from loader import make_jpegs
from machine import machine

from darts_hpc import strict_json, train_cell
from darts_hpc.api import search_cell
from darts_hpc.commands import train_imagenet
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_imagenet import ImageNetConfig

Flags = dict[str, object]


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) uint8 and labels (N,) of ten classes."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 10


def search(flags: Flags, steps: int, batch_size: int, _: Path) -> Path:
    """Search; half of the images are the weights'."""
    return search_cell(data=noise(2 * steps * batch_size), batch_size=batch_size, **flags).folder


def train(flags: Flags, steps: int, batch_size: int, _: Path) -> Path:
    """Train on CIFAR's size."""
    data, test_data = noise(steps * batch_size), noise(batch_size)
    more: Flags = {"arch": "DARTS_V2", "auxiliary": True, "cutout": True, **flags}
    return train_cell(data=data, test_data=test_data, batch_size=batch_size, **more).folder


def synthetic(flags: Flags, steps: int, batch_size: int, _: Path) -> Path:
    """Train on ImageNet's size, on images that are there."""
    return imagenet({"loader": "synthetic", "synthetic_images": steps * batch_size, **flags}, batch_size)


def dali(flags: Flags, steps: int, batch_size: int, folder: Path) -> Path:
    """Train on ImageNet's size, on JPEGs that DALI reads: a few, each under many names."""
    made = [*(make_jpegs(folder / "made", 64) / "train").rglob("*.jpg")]
    for part, count in (("train", steps * batch_size), ("val", max(10, batch_size))):
        for i in range(count):
            path = folder / "images" / part / f"class{i % 10}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(made[i % len(made)], path)
    threads = max(2, min(16, (os.cpu_count() or 2) - 1))
    return imagenet({"data": folder / "images", "loader": "dali", "num_threads": threads, **flags}, batch_size)


def imagenet(flags: Flags, batch_size: int) -> Path:
    """Run train_imagenet with these flags."""
    given = {"arch": "DARTS_V2", "batch_size": batch_size, "auxiliary": True, **flags}
    tokens = [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]
    return train_imagenet.main(parse_config(ImageNetConfig, tokens))


ENTRIES: dict[str, tuple[Callable[[Flags, int, int, Path], Path], int]] = {
    "train_search": (search, 64),
    "train": (train, 96),
    "train_imagenet": (synthetic, 128),
    "train_imagenet_dali": (dali, 128),
}
"""Entry -> what runs it, images per step."""
SMALL: Flags = {"init_channels": 4, "layers": 3}
SMALL_IMAGENET: Flags = {"init_channels": 8, "layers": 5, "image_size": 64, "resize": 72}


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", choices=ENTRIES)
    parser.add_argument("--quick", action="store_true", help="a tiny network and six steps")
    args = parser.parse_args()
    run_entry, batch_size = ENTRIES[args.entry]
    steps, window, warm_up = (6, 1, 2) if args.quick else (200, 10, 5)
    small: Flags = {}
    if args.quick:
        batch_size, small = 4, SMALL_IMAGENET if "imagenet" in args.entry else SMALL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags: Flags = {"epochs": 1, "report_freq": window, "save": f"{folder}/run/", **small}
        done = run_entry(flags, steps, batch_size, folder)
        lines = (done / "performance.jsonl").read_text(encoding="utf-8").splitlines()
    windows = [record for record in map(json.loads, lines) if "performance/images_per_second" in record][warm_up:]

    def median(number: str) -> float | None:
        values = [record[f"performance/{number}"] for record in windows if f"performance/{number}" in record]
        return statistics.median(values) if values else None

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = {
        "benchmark": "entry_steps",
        "entry": args.entry,
        "machine": machine(device, torch.get_num_threads()),
        "torch": torch.__version__,
        "steps": steps,
        "batch_size": batch_size,
        "images_per_s": median("images_per_second"),
        "seconds_per_step": median("seconds_per_step"),
        "memory_bytes": median("memory_bytes"),
        "data_wait_share": median("data_wait_share"),
        "quick": args.quick,
    }
    print(strict_json.dumps(result))


if __name__ == "__main__":
    run(main)
