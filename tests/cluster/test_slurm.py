"""The cluster that the other tests run on: two nodes that are nodes to Slurm, and that can be lost."""

from pathlib import Path

from slurm_cluster import Cluster


def test_two_nodes_run_one_job_and_have_disks_of_their_own(cluster: Cluster, tmp_path: Path):
    write = f"hostname > {cluster.disk}/name && cat {cluster.disk}/name"
    assert sorted(cluster.run("srun", "--nodes=2", "sh", "-c", write).stdout.split()) == ["node1", "node2"]
    job = cluster.sbatch("--array=0-1", f"--output={tmp_path}/%a.txt", "--wrap", "echo $SLURM_ARRAY_TASK_ID", cwd="/")
    for task in "01":
        assert cluster.wait(f"{job}_{task}")["JobState"] == "COMPLETED"
        assert (tmp_path / f"{task}.txt").read_text() == f"{task}\n"


def test_two_clusters_do_not_meet(cluster: Cluster):
    job = cluster.sbatch("--hold", "--output=/dev/null", "--wrap", "true", cwd="/")
    with Cluster(num_nodes=1) as other:
        assert other.run("squeue", "--noheader").stdout == ""
        assert other.run("srun", "hostname").stdout == "node1\n"
        folder = other.folder
    assert job in cluster.run("squeue", "--noheader").stdout and not folder.exists()
    cluster.run("scancel", job)
