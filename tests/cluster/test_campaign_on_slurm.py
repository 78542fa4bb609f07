"""A whole campaign whose jobs are Slurm's: one is told to leave, a node is lost, and the table is the local run's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from forked_jobs import SEARCH_FLAGS, TINY, campaign_in_forks
from jobs import environment, steps_done
from slurm_cluster import Cluster

pytestmark = pytest.mark.slow
FLAGS = (*TINY, "--final_seeds", "0", "--poll_seconds", "1")  # to ask Slurm costs CPU
FLAGS += ("--search_flags", f"{SEARCH_FLAGS} --epochs 8")  # long enough to be met in its run


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
    campaign = cluster.sbatch(
        "--nodelist=node1", f"--output={log}", "slurm/campaign.sbatch", *FLAGS, "--save", f"{folder}/",
        cwd=checkout, env=environment(),
    )  # fmt: skip

    def disturb(strike: Callable[[str], object], mend: Callable[[], object] = lambda: None) -> str:
        """Strike jobs in the middle of their runs until one is sent back to the queue; return its name."""
        while True:
            job, name = cluster.wait_for(lambda: running_jobs(cluster, folder), "a job amid its run", 240)[0]
            strike(job)
            state = cluster.wait(job, "PENDING", "COMPLETED")["JobState"]
            mend()
            if state == "PENDING":
                return name

    cluster.wait(campaign, "RUNNING")
    cluster.run("scontrol", "update", "nodename=node1", "state=drain", "reason=all jobs of the campaign go to node2")
    try:
        # USR2 is what Slurm sends before the time limit.
        preempted = disturb(lambda job: cluster.run("scancel", "--signal=USR2", job, check=False))
        disturb(lambda job: cluster.crash("node2"), mend=lambda: cluster.power_on("node2"))
    finally:
        cluster.run("scontrol", "update", "nodename=node1", "state=resume")

    ended = cluster.wait(campaign, timeout_s=280)
    assert ended["JobState"] == "COMPLETED", log.read_text()
    said = (folder / "jobs" / f"{preempted}.log").read_text()
    assert "stopped by SIGTERM" in said and "going on in epoch" in said
    done = campaign_in_forks(*FLAGS, "--save", f"{local}/", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert table(folder) == table(local)


def test_a_cancelled_campaign_leaves_no_job_and_goes_on(cluster: Cluster, checkout: Path, tmp_path: Path):
    folder, log = tmp_path / "slurm", tmp_path / "log"
    flags = [*FLAGS, "--save", f"{folder}/"]
    campaign = cluster.sbatch(f"--output={log}", "slurm/campaign.sbatch", *flags, cwd=checkout, env=environment())
    cluster.wait_for(lambda: running_jobs(cluster, folder), "a job amid its run", 240)
    cluster.run("scancel", campaign)
    cluster.wait(campaign)
    done = cluster.run(
        environment()["PYTHON"], "-m", "darts_hpc.campaign", "cancel", folder, cwd=checkout, env=environment()
    )
    assert "jobs stopped" in done.stdout
    assert cluster.run("squeue", "--noheader").stdout == ""
