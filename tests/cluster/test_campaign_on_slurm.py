"""A whole campaign whose jobs are Slurm's: one is told to leave, a node is lost, and the table is the local run's."""

import json
from pathlib import Path

import pytest
from jobs import environment, run, steps_done, wait_until
from slurm_cluster import ENDED, Cluster

pytestmark = pytest.mark.slow
TINY = ("--config", "configs/campaign/tiny.yaml")


def table(folder: Path) -> list[tuple]:
    """Return every cell of the report with its genotype and every accuracy, to the last bit."""
    report = json.loads((folder / "report" / "report.json").read_text())
    ranking = [(ranked["cell"], ranked["held_out"]) for ranked in report["ranking"]]
    return [*ranking, *((row["accuracies"], row["statistics"]["test/accuracy"]) for row in report["rows"])]


def a_running_job(cluster: Cluster, campaign: Path, *where: str) -> tuple[str, str] | None:
    """Return id and name of a job of the campaign that is between its first and last step."""
    squeue = cluster.run("squeue", "--noheader", "--states=R", *where, "--format=%A %j")
    for line in squeue.stdout.splitlines():
        job, name = line.split()
        folder = campaign / "runs" / name
        if steps_done(folder) >= 1 and not (folder / "result.json").exists():
            return job, name
    return None


def test_a_campaign_on_slurm_that_loses_a_job_and_a_node_comes_to_the_local_table(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    local, folder, log = tmp_path / "local", tmp_path / "slurm", tmp_path / "log"
    command = [environment()["PYTHON"], "-m", "darts_hpc.campaign", *TINY, "--save", f"{local}/", "--jobs", "2"]
    assert run(*command, cwd=checkout, log=tmp_path / "local.log") == 0, (tmp_path / "local.log").read_text()

    campaign = cluster.sbatch(
        "--nodelist=node1", f"--output={log}", "slurm/campaign.sbatch", *TINY, "--save", f"{folder}/",
        cwd=checkout, env=environment(),
    )  # fmt: skip

    def wait_for_job(*where: str) -> tuple[str, str]:
        found: list[tuple[str, str]] = []

        def reached() -> bool:
            job = a_running_job(cluster, folder, *where)
            found.extend([job] if job else [])
            return bool(found) or cluster.job(campaign)["JobState"] in ENDED

        wait_until(reached, 240, "a job in the middle of its run")
        assert found, log.read_text()
        return found[0]

    preempted, preempted_name = wait_for_job()
    cluster.run("scancel", "--signal=USR2", preempted)  # what Slurm sends before the time limit
    cluster.wait(preempted, "PENDING")
    lost, _ = wait_for_job("--nodelist=node2")
    cluster.crash("node2")
    cluster.wait(lost, "PENDING")
    cluster.power_on("node2")

    ended = cluster.wait(campaign, timeout_s=280)
    assert ended["JobState"] == "COMPLETED", log.read_text()
    said = (folder / "jobs" / f"{preempted_name}.log").read_text()
    assert "stopped by SIGTERM" in said and "going on in epoch" in said
    assert table(folder) == table(local)


def test_a_cancelled_campaign_leaves_no_job_and_goes_on(cluster: Cluster, checkout: Path, tmp_path: Path):
    folder, log = tmp_path / "slurm", tmp_path / "log"
    flags = [*TINY, "--save", f"{folder}/"]
    campaign = cluster.sbatch(f"--output={log}", "slurm/campaign.sbatch", *flags, cwd=checkout, env=environment())
    wait_until(lambda: a_running_job(cluster, folder) or cluster.job(campaign)["JobState"] in ENDED, 240, "a job")
    cluster.run("scancel", campaign)
    cluster.wait(campaign)
    done = cluster.run(
        environment()["PYTHON"], "-m", "darts_hpc.campaign", "cancel", folder, cwd=checkout, env=environment()
    )
    assert "jobs stopped" in done.stdout
    assert cluster.run("squeue", "--noheader").stdout == ""
