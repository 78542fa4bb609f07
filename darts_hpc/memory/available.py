"""Free memory of this process: on the GPU, or on the CPU by the tightest of several limits."""

import importlib
import math
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

MARGIN_SHARE, MARGIN_BYTES = 0.05, 256 * 2**20
"""Safety margin, the larger of both: kernels' workspaces, fragmentation, and what Python and libraries load later."""
ADDRESS_MARGIN_BYTES = 512 * 2**20
"""Safety margin of the address space, where each thread reserves more than it uses."""


class FreeMemory(NamedTuple):
    """Free bytes after the safety margin, and where the limit comes from."""

    num_bytes: float
    source: str


def free_memory(device: torch.device, processes: int = 1) -> FreeMemory:
    """Return the free memory of one process on the device; `processes` of this machine share its main memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return _less_margin(free, f"{device} has free")
    shared = [("the machine has available", _available_bytes()), *_cgroup_limits()]
    limits = [_less_margin(free / processes, source) for source, free in shared]
    limits.append(_less_margin(_address_space(), "ulimit -v leaves", ADDRESS_MARGIN_BYTES))
    return min(limits, key=lambda limit: limit.num_bytes)


def _less_margin(free: float, source: str, least: int = MARGIN_BYTES) -> FreeMemory:
    margin = max(MARGIN_SHARE * free, least) if free < math.inf else 0
    return FreeMemory(max(free - margin, 0), source)


def _available_bytes(meminfo: Path = Path("/proc/meminfo")) -> float:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return math.inf


def _address_space(statm: Path = Path("/proc/self/statm")) -> float:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return math.inf
    importlib.import_module("torch._dynamo")  # recomputed cells would, later, and it takes 350 MiB
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    return max(limit - used, 0)


def _cgroup_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list:
    """Return (source, bytes left) of every memory limit from this process's control group up to the root."""
    limits = []
    for line in _lines(own):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            names, base = ("memory.max", "memory.high"), root
            usage, stat = "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names, base = ("memory.limit_in_bytes",), root / "memory"
            usage, stat = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        for group in _up_to(base, path.strip()):
            used = _number(group / usage)
            for name in names:
                limit = _number(group / name)
                if limit < math.inf and used < math.inf:
                    # The kernel reclaims inactive file pages before it kills a process.
                    not_reclaimable = used - min(_statistic(group / "memory.stat", stat), used)
                    limits.append((f"the cgroup's {name} leaves", max(limit - not_reclaimable, 0)))
    return limits


def _up_to(base: Path, path: str) -> Iterator[Path]:
    """Yield the group and its ancestors. In a container the path may be the host's: then only the base exists."""
    group = base / path.strip("/")
    while group != base:
        yield group
        group = group.parent
    yield base


def _number(file: Path) -> float:
    """Return the number in a cgroup file; infinite for 'max', for a file that is missing, and for version 1's 2**63."""
    text = next(iter(_lines(file)), "max").strip()
    value = int(text) if text.isdigit() else math.inf
    return value if value < 2**60 else math.inf


def _statistic(file: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in _lines(file) if line.split()[0] == name), 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
