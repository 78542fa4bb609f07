"""Whatever ends a run's processes, the run goes on from its last checkpoint and ends as if nothing had happened."""

import os
import signal
import sys
from pathlib import Path

import pytest
from jobs import TRAIN, environment, outcome, run_in_forks, start, wait_for_steps, wait_until, workers
from slurm_cluster import ENDED, Cluster

pytestmark = pytest.mark.slow


def submit(cluster: Cluster, checkout: Path, folder: Path, nodes: int) -> str:
    """Submit a training with one process on each node; slurm/train.sbatch without its array."""
    flags = [*TRAIN[1:], "--seed", "0", "--save", f"{folder}/run"]
    return cluster.sbatch(
        "--array=0", f"--nodes={nodes}", f"--output={folder}/log", "slurm/train.sbatch", *flags,
        cwd=checkout, env=environment(),
    )  # fmt: skip


def test_a_job_that_must_end_or_loses_a_node_is_queued_again_and_goes_on(
    cluster: Cluster, checkout: Path, undisturbed, tmp_path: Path
):
    job = submit(cluster, checkout, tmp_path, nodes=2)
    wait_for_steps(tmp_path / "run", 3, tmp_path / "log")
    cluster.run("scancel", "--batch", "--signal=USR1", job)  # what Slurm sends 300 s before the time limit
    cluster.wait(f"{job}_0", "PENDING", timeout_s=120)
    log = (tmp_path / "log").read_text()
    assert "stopped by SIGUSR1" in log and "+ scontrol requeue" in log
    wait_for_steps(tmp_path / "run", 9, tmp_path / "log")
    cluster.crash("node2")
    cluster.wait(f"{job}_0", "PENDING", timeout_s=120)
    cluster.wait_for(lambda: cluster.processes("node1") == [], "no process left on the other node")
    cluster.power_on("node2")
    ended, log = cluster.wait(f"{job}_0", timeout_s=250), (tmp_path / "log").read_text()
    assert ended["JobState"] == "COMPLETED" and ended["Restarts"] == "2", log
    assert log.count("going on in epoch") == 2 and log.count("+ scontrol requeue") == 1
    assert outcome(tmp_path / "run") == undisturbed(TRAIN, 2)


def test_a_job_that_must_end_while_torch_is_imported_is_queued_again(cluster: Cluster, checkout: Path, tmp_path: Path):
    job, log = submit(cluster, checkout, tmp_path, nodes=1), tmp_path / "log"
    wait_until(lambda: log.exists() and "darts_hpc.distributed.torchrun" in log.read_text(), 60, "torchrun")
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    cluster.wait(f"{job}_0", "PENDING", *ENDED)
    cluster.run("scancel", job)
    assert cluster.wait(f"{job}_0")["JobState"] == "CANCELLED"
    said = log.read_text()
    assert "run folder" not in said and "Traceback" not in said and said.count("+ scontrol requeue") == 1, said


def test_a_killed_launcher_leaves_no_orphan_and_one_that_stumbles_on_two_nodes_leaves_its_run_alone(
    checkout: Path, undisturbed, tmp_path: Path
):
    where = {"NODES": "1", "HEAD": "localhost", "PORT": "29418", "PROCESSES": "1"}
    command = [checkout / "launch/multinode.sh", *TRAIN, "--save"]
    old = tmp_path / "runs" / "train-mine-20260101-000000-darts_hpc"  # what a launch of this name would call it
    launcher = start(*command, old, cwd=tmp_path, log=tmp_path / "log", **where)
    wait_for_steps(old, 3, tmp_path / "log")
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    wait_until(lambda: workers(old) == [], 60, "the worker to end")
    assert not (old / "result.json").exists()  # it did not just come to its run's end
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
    checkout: Path, undisturbed, tmp_path: Path
):
    folder = tmp_path / "run"
    for number, steps in ((signal.SIGUSR1, 7), (signal.SIGTERM, 12)):
        log = tmp_path / number.name
        launcher = start(
            "launch/local.sh", *TRAIN, "--save", folder, "--resume", "auto", cwd=checkout, log=log, PROCESSES="2"
        )
        if number == signal.SIGUSR1:
            wait_for_steps(folder, 3, log)
            os.kill(workers(folder)[-1], signal.SIGKILL)
            wait_until(lambda log=log: "going on in epoch" in log.read_text(), 200, "the restarted group")
        wait_for_steps(folder, steps, log)
        os.kill(launcher.pid if number == signal.SIGUSR1 else workers(folder)[-1], number)
        ended, said = launcher.wait(timeout=120), log.read_text()
        starts = 2 if number == signal.SIGUSR1 else 1  # none after the signal
        assert ended == 128 + number and said.count("run folder:") == starts, said
        assert f"stopped by {number.name}" in said and "Traceback" not in said, said
        assert workers(folder) == [] and not (folder / "result.json").exists()
    run_in_forks(TRAIN, 2, "--save", folder, "--resume", "auto")
    assert outcome(folder) == undisturbed(TRAIN, 2)
