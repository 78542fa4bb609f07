"""Locks between processes: one inside at a time, no file left behind, and none outlives its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from darts_hpc.locks import is_locked, lock_run_folder, locked

ENTER_OFTEN = """
import sys
from pathlib import Path
from darts_hpc.locks import locked
folder, crowded = Path(sys.argv[1]), 0
for _ in range(100):
    with locked(folder / "lock"):
        try:
            (folder / "inside").touch(exist_ok=False)
        except FileExistsError:
            crowded += 1
        (folder / "inside").unlink(missing_ok=True)
sys.exit(crowded)
"""
DIE_INSIDE = """
import signal, sys
from pathlib import Path
from darts_hpc.locks import locked
with locked(Path(sys.argv[1]) / "lock"):
    signal.raise_signal(signal.SIGKILL)
"""
HOLD_RUN_FOLDER = """
import sys, time
from pathlib import Path
from darts_hpc.locks import lock_run_folder
with lock_run_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(1000)
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)


def test_one_process_is_inside_at_a_time_though_each_removes_the_file(tmp_path: Path):
    processes = [start(ENTER_OFTEN, tmp_path) for _ in range(4)]
    assert [process.wait(240) for process in processes] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_inside_keeps_nobody_out(tmp_path: Path):
    assert start(DIE_INSIDE, tmp_path).wait(240) == -signal.SIGKILL
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_run_folder_names_its_owner_and_dies_with_it(tmp_path: Path):
    with start(HOLD_RUN_FOLDER, tmp_path) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"in use by process {owner.pid} on "), lock_run_folder(tmp_path):
            pass
        assert is_locked(tmp_path)
        owner.kill()
    assert not is_locked(tmp_path)


def test_looking_whether_a_folder_is_locked_changes_nothing_there(tmp_path: Path):
    assert not is_locked(tmp_path) and not is_locked(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    with lock_run_folder(tmp_path):
        pass
    said = (tmp_path / ".lock").read_text()
    assert not is_locked(tmp_path) and (tmp_path / ".lock").read_text() == said


def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can't write to the run folder"), lock_run_folder(tmp_path / "file" / "run"):
        pass


def test_a_file_system_without_locks_warns_and_lets_the_process_go_on(tmp_path: Path, monkeypatch, caplog):
    def no_locks(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    for lock in (lock_run_folder(tmp_path / "run"), locked(tmp_path / "file")):
        caplog.clear()
        with lock:
            assert "can't be locked" in caplog.text


def test_looking_at_locks_needs_no_torch():
    code = "import sys, darts_hpc.locks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OSError, match="No such device"), locked(tmp_path / "lock"):
        pass
