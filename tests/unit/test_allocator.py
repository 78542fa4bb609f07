"""Memory that is freed stays in the process, unless the user has said otherwise."""

import resource
import subprocess
import sys

import pytest

from darts_hpc.allocator import keep_freed_memory

TOUCH = """
import resource
from darts_hpc.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

size = 2**26
if {keep}:
    assert keep_freed_memory()
b"x" * size
before = faults()
for _ in range(4):
    b"x" * size
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_pages_of_64_megabytes_are_faulted_once_and_not_each_time():
    def faults(keep: bool) -> int:
        done = subprocess.run(
            [sys.executable, "-c", TOUCH.format(keep=keep)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    pages = 4 * 2**26 // resource.getpagesize()
    assert faults(True) < pages / 100 < pages / 20 < faults(False)


@pytest.mark.parametrize("own", [{"MALLOC_TRIM_THRESHOLD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}])
def test_what_the_user_set_stays(own):
    assert not keep_freed_memory(own)
