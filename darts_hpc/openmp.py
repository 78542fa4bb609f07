"""How long OpenMP's threads spin while they wait for each other: set before torch is imported, and libgomp with it."""

import os
import time
from collections.abc import MutableMapping
from pathlib import Path

SPINS, SPINS_WHEN_BUSY = "10000", "1000"
"""Left to itself libgomp spins for milliseconds at every barrier; on a machine with other work that holds up the very
thread that all wait for. benchmarks/busy_machine.py measures both, on a quiet and on a busy machine."""
USERS_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def bound_spinning(env: MutableMapping[str, str] = os.environ) -> None:
    """Bound the spinning, more tightly where others use the CPUs now; what the user has set stays."""
    if any(name in env for name in USERS_OWN):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = int(env["OMP_NUM_THREADS"]) if env.get("OMP_NUM_THREADS", "").isdecimal() else cores
    env["GOMP_SPINCOUNT"] = SPINS_WHEN_BUSY if own + others_running() > max(cores, own) else SPINS


def others_running(stat: Path = Path("/proc/stat"), samples: int = 5) -> int:
    """Return how many other threads want a CPU of this machine, the median of samples 10 ms apart; 0 where unknown."""
    counts = []
    for _ in range(samples):
        try:
            lines = stat.read_text().splitlines()
        except OSError:
            return 0
        counts += [int(line.split()[1]) for line in lines if line.startswith("procs_running")]
        time.sleep(0.01)
    return max(0, sorted(counts)[len(counts) // 2] - 1) if counts else 0
