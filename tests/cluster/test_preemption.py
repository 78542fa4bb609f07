"""Whatever ends a run's processes, the run goes on from its last checkpoint and ends as if nothing had happened."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from holding import Hold
from jobs import TRAIN, environment, outcome, run_in_forks, start, wait_for_stop, wait_until, workers
from ranks import own_port
from slurm_cluster import ENDED, Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    """Where runs wait for what happens to them."""
    return Hold(tmp_path / "hold")


@pytest.fixture
def port() -> Iterator[int]:
    """Where nodes meet."""
    with own_port() as port:
        yield port


def submit(cluster: Cluster, checkout: Path, folder: Path, nodes: int, hold: Hold) -> str:
    """Submit a training with one process on each node; slurm/train.sbatch without its array."""
    flags = [*TRAIN[1:], "--seed", "0", "--save", f"{folder}/run"]
    return cluster.sbatch(
        "--array=0", f"--nodes={nodes}", f"--output={folder}/log", "slurm/train.sbatch", *flags,
        cwd=checkout, env=environment(**hold.environment),
    )  # fmt: skip


def test_a_job_that_must_end_or_loses_a_node_is_queued_again_and_goes_on(
    cluster: Cluster, checkout: Path, undisturbed, hold: Hold, tmp_path: Path
):
    hold.at_step(0, 3)
    job = submit(cluster, checkout, tmp_path, 2, hold)
    hold.wait(2, tmp_path / "log")
    cluster.run("scancel", "--batch", "--signal=USR1", job)  # what Slurm sends 300 s before the time limit
    wait_for_stop(signal.SIGUSR1, tmp_path / "log")
    hold.at_step(1, 4)
    cluster.wait(f"{job}_0", "PENDING", *ENDED)
    log = (tmp_path / "log").read_text()
    assert "stopped by SIGUSR1" in log and "+ scontrol requeue" in log
    hold.wait(2, tmp_path / "log")
    cluster.crash("node2")
    cluster.wait(f"{job}_0", "PENDING", *ENDED)
    hold.release()
    cluster.wait_for(lambda: cluster.processes("node1") == [], "no process left on the other node")
    cluster.power_on("node2")
    ended, log = cluster.wait(f"{job}_0"), (tmp_path / "log").read_text()
    assert ended["JobState"] == "COMPLETED" and ended["Restarts"] == "2", log
    assert log.count("going on in epoch") == 2 and log.count("+ scontrol requeue") == 1
    assert outcome(tmp_path / "run") == undisturbed(TRAIN, 2)


def test_a_job_that_must_end_while_torch_is_imported_is_queued_again(
    cluster: Cluster, checkout: Path, hold: Hold, tmp_path: Path
):
    hold.at_import()
    job, log = submit(cluster, checkout, tmp_path, 1, hold), tmp_path / "log"
    hold.wait(1, log)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    cluster.wait(f"{job}_0", "PENDING", *ENDED)
    cluster.run("scancel", job)
    assert cluster.wait(f"{job}_0")["JobState"] == "CANCELLED"
    said = log.read_text()
    assert "run folder" not in said and "Traceback" not in said and said.count("+ scontrol requeue") == 1, said


def test_a_killed_launcher_leaves_no_orphan_and_one_that_stumbles_on_two_nodes_leaves_its_run_alone(
    checkout: Path, undisturbed, hold: Hold, port: int, tmp_path: Path
):
    hold.at_step(0, 3)
    where = {"NODES": "1", "HEAD": "localhost", "PORT": str(port), "PROCESSES": "1"}
    command = [checkout / "launch/multinode.sh", *TRAIN, "--save"]
    old = tmp_path / "runs" / "train-mine-20260101-000000-darts_hpc"  # what a launch of this name would call it
    launcher = start(*command, old, cwd=tmp_path, log=tmp_path / "log", **where, **hold.environment)
    hold.wait(1, tmp_path / "log")
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    wait_until(lambda: workers(old) == [], 240, "the worker to end")
    assert not (old / "result.json").exists()
    before = {path: path.read_bytes() for path in old.rglob("*.*") if path.is_file() and path.name != ".lock"}

    stumbling = tmp_path / "python"
    stumbling.write_text(
        f'#!/bin/sh\n[ "$TORCHELASTIC_RESTART_COUNT" = 0 ] && kill -9 $$\nexec {sys.executable} "$@"\n'
    )
    stumbling.chmod(0o755)
    where |= {"NODES": "2", "PYTHON_EXEC": str(stumbling)}  # the worker's Python, to torchrun
    logs = [tmp_path / f"log{node}" for node in range(2)]  # one command on each, without a scheduler
    nodes = [start(*command, "mine", cwd=tmp_path, log=log, **where) for log in logs]
    assert [node.wait(timeout=240) for node in nodes] == [0, 0], logs[0].read_text() + logs[1].read_text()
    (new,) = {path.parent for path in tmp_path.glob("runs/*/result.json")}
    assert new != old and before == {path: path.read_bytes() for path in before}
    assert outcome(new) == undisturbed(TRAIN, 2)


def test_a_killed_rank_is_restarted_and_a_signal_to_torchrun_or_to_one_rank_stops_all_at_one_step(
    checkout: Path, undisturbed, hold: Hold, tmp_path: Path
):
    folder = tmp_path / "run"
    local = ("launch/local.sh", *TRAIN, "--save", folder, "--resume", "auto")
    for number in (signal.SIGUSR1, signal.SIGTERM):
        log = tmp_path / number.name
        hold.at_step(*((0, 3) if number == signal.SIGUSR1 else (2, 2)))
        launcher = start(*local, cwd=checkout, log=log, PROCESSES="2", **hold.environment)
        hold.wait(2, log)
        if number == signal.SIGUSR1:
            os.kill(workers(folder)[-1], signal.SIGKILL)
            hold.at_step(1, 2)
            hold.wait(2, log)
            assert "going on in epoch" in log.read_text()
            os.kill(launcher.pid, number)
            wait_for_stop(number, log)
        else:
            os.kill(workers(folder)[-1], number)
        hold.release()
        ended, said = launcher.wait(timeout=240), log.read_text()
        starts = 2 if number == signal.SIGUSR1 else 1  # none after the signal
        assert ended == 128 + number and said.count("run folder:") == starts, said
        last = said.rpartition("run folder:")[2]  # before, a rank may have said that the killed one is gone
        assert f"stopped by {number.name}" in last and "Traceback" not in last, said
        assert workers(folder) == [] and not (folder / "result.json").exists()
    run_in_forks(TRAIN, 2, "--save", folder, "--resume", "auto")
    assert outcome(folder) == undisturbed(TRAIN, 2)
