"""Keep freed memory in the process: else each large tensor on a CPU is mapped anew, and the kernel clears its pages.

Only glibc is set; another allocator that is preloaded is not touched, and a user's own setting stays.
"""

import ctypes
import os
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3): bytes at the top of the heap that are kept, bytes from which a block is mapped alone."""
LARGEST = 2**31 - 1
"""What mallopt's int holds."""


def keep_freed_memory(env: Mapping[str, str] = os.environ) -> bool:
    """Let glibc keep what is freed; return False where the user has set it in env, or the C library is another one."""
    own = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    if any(name in env for name in own) or "glibc.malloc" in env.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return library.mallopt(M_TRIM_THRESHOLD, LARGEST) == library.mallopt(M_MMAP_THRESHOLD, LARGEST) == 1
