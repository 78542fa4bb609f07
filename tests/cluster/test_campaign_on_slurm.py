"""A whole campaign whose jobs are Slurm's: one is told to leave, a node is lost, and the table is the local run's."""

import json
import re
import signal
from pathlib import Path

import pytest
from forked_jobs import SEARCH_FLAGS, TINY, campaign_in_forks
from holding import Hold
from jobs import environment, steps_done, wait_for_stop
from slurm_cluster import ENDED, Cluster

pytestmark = pytest.mark.slow
FLAGS = (*TINY, "--final_seeds", "0", "--poll_seconds", "1")  # to ask Slurm costs CPU
FLAGS += ("--search_flags", f"{SEARCH_FLAGS} --epochs 3")


def table(folder: Path) -> list[tuple]:
    """Return every cell of the report with its genotype and every accuracy, to the last bit."""
    report = json.loads((folder / "report" / "report.json").read_text())
    ranking = [(ranked["cell"], ranked["held_out"]) for ranked in report["ranking"]]
    return [*ranking, *((row["accuracies"], row["statistics"]["test/accuracy"]) for row in report["rows"])]


def running_jobs(cluster: Cluster, campaign: Path) -> list[tuple[str, str]]:
    """Return id and name of the campaign's jobs that are between their first and last step."""
    begun = [path for path in campaign.glob("runs/*") if steps_done(path) and not (path / "result.json").exists()]
    if not begun:  # Slurm is asked only then: that costs more than the runs do
        return []
    squeue = cluster.run("squeue", "--noheader", "--states=R", "--format=%A %j")
    jobs = [line.split() for line in squeue.stdout.splitlines()]
    return [(job, name) for job, name in jobs if name in {path.name for path in begun}]


def test_a_campaign_on_slurm_that_loses_a_job_and_a_node_comes_to_the_local_table(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    local, folder, log = tmp_path / "local", tmp_path / "slurm", tmp_path / "log"
    hold = Hold(tmp_path / "hold")
    hold.at_step(1, 0)  # the searches' second epoch of three, and no other job's
    campaign = cluster.sbatch(
        "--nodelist=node1", f"--output={log}", "slurm/campaign.sbatch", *FLAGS, "--save", f"{folder}/",
        cwd=checkout, env=environment(**hold.environment),
    )  # fmt: skip
    cluster.wait(campaign, "RUNNING")
    cluster.run("scontrol", "update", "nodename=node1", "state=drain", "reason=all jobs of the campaign go to node2")
    try:
        job, preempted = cluster.wait_for(lambda: running_jobs(cluster, folder), "a job amid its run")[0]
        cluster.run("scancel", "--signal=USR2", job)  # what Slurm sends before the time limit
        wait_for_stop(signal.SIGTERM, folder / "jobs" / f"{preempted}.log")
        hold.at_step(2, 0)
        cluster.wait(job, "PENDING", *ENDED)
        job, _ = cluster.wait_for(lambda: running_jobs(cluster, folder), "a job amid its run")[0]
        cluster.crash("node2")
        cluster.wait(job, "PENDING", *ENDED)
        hold.release()
        cluster.power_on("node2")
    finally:
        cluster.run("scontrol", "update", "nodename=node1", "state=resume")

    ended = cluster.wait(campaign)
    assert ended["JobState"] == "COMPLETED", log.read_text()
    said = (folder / "jobs" / f"{preempted}.log").read_text()
    assert "stopped by SIGTERM" in said and "going on in epoch" in said
    done = campaign_in_forks(*FLAGS, "--save", f"{local}/", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert table(folder) == table(local)


def test_a_cancelled_campaign_leaves_no_job_and_goes_on(cluster: Cluster, checkout: Path, tmp_path: Path):
    folder, log = tmp_path / "slurm", tmp_path / "log"
    flags = [*FLAGS, "--search_flags", f"{SEARCH_FLAGS} --epochs 100000", "--save", f"{folder}/"]
    campaign = cluster.sbatch(f"--output={log}", "slurm/campaign.sbatch", *flags, cwd=checkout, env=environment())
    cluster.wait_for(lambda: running_jobs(cluster, folder), "a job amid its run")
    cluster.run("scancel", campaign)
    cluster.wait(campaign)
    done = cluster.run(
        environment()["PYTHON"], "-m", "darts_hpc.campaign", "cancel", folder, cwd=checkout, env=environment()
    )
    assert re.search(r"\d jobs? stopped", done.stdout)
    cluster.wait_for(lambda: cluster.run("squeue", "--noheader").stdout == "", "an empty queue")
