"""Steps per minute of the demo's search, quiet and beside busy processes, by how long OpenMP's threads spin.

    python benchmarks/busy_machine.py [--busy 2] [--seconds 20] [--rounds 3]

Runs python -m darts_hpc.train_search --config configs/search/digits.yaml with each setting in turn, over and over, and
counts its steps from the second on; the table has the medians. Leave the machine alone. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from command import run, whole_number
from machine import machine

from darts_hpc.openmp import USERS_OWN

SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's own": {"GOMP_SPINCOUNT": ""},
    "10000": {"GOMP_SPINCOUNT": "10000"},
    "1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "as the command chooses": {},
}
"""Setting -> environment; an empty GOMP_SPINCOUNT counts as set by the user, and libgomp takes its own."""


def steps_per_minute(setting: dict[str, str], seconds: float) -> float:
    """Run the search until so many seconds after its first step; return its rate."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        flags = ["--config", "configs/search/digits.yaml", "--device", "cpu", "--report_freq", "1", "--no_tensorboard"]
        env = {name: value for name, value in os.environ.items() if name not in (*USERS_OWN, "OMP_NUM_THREADS")}
        search = subprocess.Popen(
            [sys.executable, "-m", "darts_hpc.train_search", *flags, "--save", str(metrics.parent)],
            env=env | setting, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def steps() -> int:
            return metrics.read_text().count('"event": "step"') if metrics.exists() else 0

        while steps() < 1:
            if search.poll() is not None:
                raise SystemExit(f"the search ended with exit code {search.returncode}")
            time.sleep(0.05)
        first, start = steps(), time.perf_counter()
        time.sleep(seconds)
        rate = 60 * (steps() - first) / (time.perf_counter() - start)
        search.kill()
        search.wait()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside the search")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=whole_number, default=3)
    args = parser.parse_args()
    rates: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in SETTINGS}
    for _ in range(args.rounds):
        for load in ("quiet", "busy"):
            busy = args.busy if load == "busy" else 0
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
            try:
                for name, setting in SETTINGS.items():
                    rates[name][load].append(steps_per_minute(setting, args.seconds))
            finally:
                for other in others:
                    other.kill()
    medians = {name: {load: statistics.median(found) for load, found in of.items()} for name, of in rates.items()}
    print(f"{'spins':24}{'quiet':>10}{f'{args.busy} busy':>10}   steps per minute")
    for name, of in medians.items():
        print(f"{name:24}{of['quiet']:10.1f}{of['busy']:10.1f}")
    ran_on = machine(torch.device("cpu"), os.cpu_count() or 1)
    print(json.dumps({"machine": ran_on, "busy": args.busy, "steps_per_minute": medians}))


if __name__ == "__main__":
    run(main)
