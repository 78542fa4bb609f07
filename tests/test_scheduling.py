"""How the suite itself is run: pytest ends, and runs every test, though a test takes its process down with it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import os, pytest

@pytest.mark.parametrize("number", range(4))
def test(number):
    if number in {dies_at}:
        os.kill(os.getpid(), 9)
"""


def test_a_crash_fails_one_test_and_the_rest_of_its_file_is_run(tmp_path: Path):
    for name in ("conftest.py", "few_digits.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    for name, dies_at in (("a", ()), ("b", (1, 3)), ("c", ()), ("d", ())):
        (tmp_path / f"test_{name}.py").write_text(TESTS.format(dies_at=dies_at))
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert re.findall(r"FAILED (\S+)", done.stdout) == ["test_b.py::test[1]", "test_b.py::test[3]"], done.stdout
    assert "2 failed, 14 passed" in done.stdout
