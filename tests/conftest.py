"""Test processes side by side have a thread each; the tests of a file stay in one process (--dist loadfile)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the processes that tests start inherit it
