"""OpenMP's threads spin for a bounded time, a shorter one where other programs use the CPUs."""

import os
import subprocess
import sys

import pytest

from darts_hpc import openmp


@pytest.mark.parametrize(("others", "threads", "spins"), [(0, "2", "10000"), (2, "2", "1000"), (1, "1", "10000")])
def test_spinning_is_shorter_where_others_use_the_cpus(others, threads, spins, monkeypatch):
    monkeypatch.setattr(openmp, "others_running", lambda: others)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    env = {"OMP_NUM_THREADS": threads}
    openmp.bound_spinning(env)
    assert env["GOMP_SPINCOUNT"] == spins


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_what_the_user_set_stays(own):
    env = dict(own)
    openmp.bound_spinning(env)
    assert env == own


def test_a_busy_process_is_counted(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout is not None and busy.stdout.readline()
        assert openmp.others_running() >= 1
        busy.kill()
    (tmp_path / "stat").write_text("cpu 1 2\nprocs_running 4\n")
    assert openmp.others_running(tmp_path / "stat") == 3
    assert openmp.others_running(tmp_path / "none") == 0


def test_an_entry_sets_it_before_torch_is_imported():
    code = (
        "import os, sys\nfrom darts_hpc.config import cli\nfrom darts_hpc.config.pack import PackConfig\n"
        "sys.argv = ['pack', 'images', 'shards']\n"
        "def importing(name):\n    assert name == 'torch' not in sys.modules\n    print(os.environ['GOMP_SPINCOUNT'])\n"
        "cli.import_lasting = importing\ncli.run_entry(lambda cfg: None, PackConfig)\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in openmp.USERS_OWN}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (openmp.SPINS, openmp.SPINS_WHEN_BUSY)


def test_a_command_that_imports_no_torch_leaves_it_to_its_jobs():
    code = (
        "import os, sys\nfrom darts_hpc.config.cli import run_entry\nfrom darts_hpc.config.pack import PackConfig\n"
        "sys.argv = ['pack', 'images', 'shards']\n"
        "run_entry(lambda cfg: print('GOMP_SPINCOUNT' in os.environ), PackConfig, imports_torch=False)\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in openmp.USERS_OWN}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
