"""Limits of control groups as the kernel writes them, in a copy of their file tree."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from darts_hpc.memory.available import (
    MARGIN_BYTES,
    _address_space,
    _available_bytes,
    _cgroup_limits,
    _less_margin,
    free_memory,
)

GIB = 2**30


def group(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")
    return folder


def test_version_2_counts_every_ancestor_and_takes_idle_file_pages_as_free(tmp_path):
    root = tmp_path / "cgroup"
    group(root / "job", memory__max=4 * GIB, memory__current=3 * GIB, memory__stat=f"anon 1\ninactive_file {GIB}")
    group(root / "job/step", memory__max="max", memory__high=8 * GIB, memory__current=GIB)
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    assert sorted(_cgroup_limits(root, own)) == [
        ("the cgroup's memory.high leaves", 7 * GIB),
        ("the cgroup's memory.max leaves", 2 * GIB),
    ]


def test_version_1_takes_its_own_hierarchy_and_no_limit_for_the_largest_number(tmp_path):
    root = tmp_path / "cgroup"
    group(root / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=GIB)
    group(root / "memory/slurm", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=GIB)
    own = tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/slurm\n4:memory:/slurm\n0::/\n")
    assert _cgroup_limits(root, own) == [("the cgroup's memory.limit_in_bytes leaves", GIB)]


def test_in_a_container_whose_path_is_the_hosts_the_mounted_root_counts(tmp_path):
    root = group(tmp_path / "cgroup", memory__max=GIB, memory__current=2 * GIB)
    own = tmp_path / "own"
    own.write_text("0::/kubepods/pod1\n")
    assert _cgroup_limits(root, own) == [("the cgroup's memory.max leaves", 0)]


def test_available_memory_of_the_machine_is_read_in_kib(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert _available_bytes(file) == 2 * 2**20


def test_address_space_is_the_limit_less_what_is_mapped():
    code = (
        "import resource, torch; from darts_hpc.memory.available import free_memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({64 * GIB}, {64 * GIB}))\n"
        "free = free_memory(torch.device('cpu'), processes=1000)\nprint(free.source)\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({6 * GIB}, {6 * GIB}))\n"
        "free = free_memory(torch.device('cpu'))\nprint(free.source, free.num_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "the machine has available"  # shared by 1000 processes, while the limit is each one's own
    *source, free = second.split()
    assert " ".join(source) == "ulimit -v leaves" and 0 < float(free) < 6 * GIB


def test_without_a_limit_the_address_space_is_endless():
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("this shell has a limit (ulimit -v)")
    assert _address_space() == float("inf")


def test_a_margin_stays_free_and_nothing_is_never_negative():
    assert _less_margin(100 * GIB, "x").num_bytes == 95 * GIB
    assert _less_margin(GIB, "x").num_bytes == GIB - MARGIN_BYTES
    assert _less_margin(1, "x").num_bytes == 0
    assert 0 < free_memory(torch.device("cpu")).num_bytes < float("inf")
