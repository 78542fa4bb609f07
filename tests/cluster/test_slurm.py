"""The cluster that the other tests run on: two nodes that are nodes to Slurm, and that can be lost."""

import sys
from pathlib import Path

from slurm_cluster import Cluster

ROOT = Path(__file__).parents[2]


def test_two_nodes_run_one_job_and_have_disks_of_their_own(cluster: Cluster, tmp_path: Path):
    write = f"hostname > {cluster.disk}/name && cat {cluster.disk}/name"
    assert sorted(cluster.run("srun", "--nodes=2", "sh", "-c", write).stdout.split()) == ["node1", "node2"]
    job = cluster.sbatch("--array=0-1", f"--output={tmp_path}/%a.txt", "--wrap", "echo $SLURM_ARRAY_TASK_ID", cwd="/")
    for task in "01":
        assert cluster.wait(f"{job}_{task}")["JobState"] == "COMPLETED"
        assert (tmp_path / f"{task}.txt").read_text() == f"{task}\n"


def test_what_is_typed_into_a_shell_of_srun_is_one_process_and_a_program_in_its_place_is_one_of_several(
    cluster: Cluster, tmp_path: Path
):
    where = "from darts_hpc.distributed.launcher import detect_launcher as d; i = d(); print('place', i.rank, i.size)"
    python = f'{sys.executable} -c "{where}"'
    torchrun = "RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 GROUP_WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT=1"
    commands = tmp_path / "commands"
    commands.write_text(
        f"{python}\n{torchrun} {python}\nsrun --overlap -n2 {python} < /dev/null > {tmp_path}/inner\nexit\n"
    )
    script = tmp_path / "script"
    script.write_text(f"{python} > {tmp_path}/place$SLURM_PROCID\n")
    terminal = f"script -qec 'srun -n2 --pty bash --norc' {tmp_path}/shell < {commands}"
    terminal += f"; script -qec 'srun -n2 --pty bash {script}' /dev/null < /dev/null"
    cluster.run("bash", "-c", terminal, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    shell = [line.strip() for line in (tmp_path / "shell").read_text().splitlines()]
    assert [line for line in shell if line.startswith("place")] == ["place 0 1"] * 2, shell
    assert sorted((tmp_path / "inner").read_text().split("\n")[:2]) == ["place 0 2", "place 1 2"]
    assert [(tmp_path / f"place{rank}").read_text() for rank in "01"] == ["place 0 2\n", "place 1 2\n"]


def test_two_clusters_do_not_meet(cluster: Cluster):
    job = cluster.sbatch("--hold", "--output=/dev/null", "--wrap", "true", cwd="/")
    with Cluster(num_nodes=1) as other:
        assert other.run("squeue", "--noheader").stdout == ""
        assert other.run("srun", "hostname").stdout == "node1\n"
        folder = other.folder
    assert job in cluster.run("squeue", "--noheader").stdout and not folder.exists()
    cluster.run("scancel", job)
