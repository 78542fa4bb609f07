"""Test processes side by side have a thread each; the tests of a file stay in one process (--dist loadfile)."""

import os
import shutil

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the processes that tests start inherit it


@pytest.fixture
def dot() -> None:
    """Skip a test of pictures where graphviz's program is not installed."""
    if shutil.which("dot") is None:
        pytest.skip("needs graphviz's dot program")
