"""A launch has one identity in all its processes and after its restarts, and no other launch has it."""

import subprocess
import sys

import pytest

from darts_hpc.distributed.identity import earlier_identities, identities

ASK = "from darts_hpc.distributed.identity import identities; print(identities())"
# A launcher starts workers, one of them through a shell, as torchrun does: with its variables, which it has not itself.
TORCHRUN = """
import os, subprocess, sys
ask = [sys.executable, "-c", {ask!r}]
for restart, command in enumerate([ask, ["sh", "-c", '"$0" "$@"; true', *ask]]):
    own = {{"TORCHELASTIC_RESTART_COUNT": str(restart), "TORCHELASTIC_RUN_ID": "none"}}
    subprocess.run(command, env={{**os.environ, **own}})
"""
ARRAY = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_CLUSTER_NAME": "c"}


def test_restarts_of_one_torchrun_are_one_launch_and_another_torchrun_is_another():
    command = [sys.executable, "-c", TORCHRUN.format(ask=ASK)]
    launchers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (launcher.communicate()[0].splitlines() for launcher in launchers)
    assert first[0] == first[1] != second[0] == second[1]
    assert "torchrun none" in first[0]


def test_a_requeued_job_of_slurm_is_the_same_launch_and_a_task_of_an_array_is_one_of_its_own():
    tasks = [{**ARRAY, "SLURM_JOB_ID": str(job), "SLURM_RESTART_COUNT": "1"} for job in (70, 71)]
    assert [earlier_identities(task) for task in tasks] == [identities(task) for task in tasks]
    assert identities(tasks[0]) != identities(tasks[1])
    assert earlier_identities({**ARRAY, "SLURM_JOB_ID": "70"}) == []


@pytest.mark.parametrize(("restarts", "requeues"), [("0", "0"), ("2", "0"), ("0", "1"), ("1", "3")])
def test_only_what_says_it_is_a_restart_has_an_earlier_identity(restarts, requeues):
    env = {"TORCHELASTIC_RESTART_COUNT": restarts, "SLURM_JOB_ID": "70", "SLURM_RESTART_COUNT": requeues}
    torchrun, slurm = identities(env)
    assert earlier_identities(env) == [torchrun] * (restarts != "0") + [slurm] * (requeues != "0")


def test_without_a_launcher_a_process_is_a_launch_that_never_was_restarted():
    assert identities({}) == identities({}) and earlier_identities({}) == []
