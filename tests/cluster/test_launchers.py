"""Every launcher starts the same run: with as many processes, the same weights, alphas and metrics to the last bit.

Launches without a scheduler: test_preemption.py.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from holding import Hold
from jobs import SEARCH, TRAIN, environment, mpi_python, outcome, run, wait_until
from PIL import Image
from slurm_cluster import ENDED, Cluster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mpi", ["openmpi", "mpich"])
def test_mpi_with_two_ranks(mpi, checkout: Path, undisturbed, tmp_path: Path):
    try:
        programs = mpi_python(tmp_path / "venv", mpi)
    except LookupError as reason:
        pytest.skip(str(reason))
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    flags = "--oversubscribe" if mpi == "openmpi" else ""
    code = run(
        "launch/mpi.sh", 2, *TRAIN, "--save", tmp_path / "run", cwd=checkout, log=tmp_path / "log",
        MPIRUN=str(programs / "mpirun"), MPIRUN_FLAGS=flags, PYTHON=str(programs / "python"), **root,
    )  # fmt: skip
    assert code == 0, (tmp_path / "log").read_text()
    assert outcome(tmp_path / "run") == undisturbed(TRAIN, 2)


def test_plain_srun_on_two_nodes_with_two_processes_each(cluster: Cluster, checkout: Path, undisturbed, tmp_path: Path):
    python = environment()["PYTHON"]
    cluster.run(
        "srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--kill-on-bad-exit=1", python,
        "-m", f"darts_hpc.{SEARCH[0]}", *SEARCH[1:], "--save", tmp_path / "run", cwd=checkout, env=environment(),
        timeout_s=280,
    )  # fmt: skip
    assert outcome(tmp_path / "run") == undisturbed(SEARCH, 4)


def test_an_array_trains_a_seed_each_and_one_that_is_cancelled_does_not_come_back(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    hold = Hold(tmp_path / "hold")
    hold.at_step(0, 2)
    job = cluster.sbatch(
        "--array=0-1", "slurm/train.sbatch", *TRAIN[1:], "--save", "seeds",
        cwd=checkout, env=environment(**hold.environment),
    )  # fmt: skip
    logs = [checkout / "slurm" / "logs" / f"train-{job}_{seed}.out" for seed in (0, 1)]
    hold.wait(2, logs[0])
    cluster.run("scancel", f"{job}_0")
    hold.release()
    ended = [cluster.wait(f"{job}_{seed}")["JobState"] for seed in (0, 1)]
    said = [log.read_text() for log in logs]
    assert ended == ["CANCELLED", "COMPLETED"] and "+ scontrol requeue" not in said[0], said
    (folder,) = checkout.glob(f"runs/train-seeds-*-{job}_1")
    assert "seed: 1\n" in (folder / "config.yaml").read_text()
    assert (folder / "result.json").exists() and "+ srun" in said[1] and "--seed 1" in said[1]


def test_search_sbatch_runs_unedited_on_the_default_partition_also_on_imagenet_and_two_nodes(
    cluster: Cluster, checkout: Path, undisturbed, tmp_path: Path
):
    save_photos(tmp_path)
    flags = ["--dataset", "imagenet", "--data", f"{tmp_path}", "--weight_share", "0.5", "--alpha_share", "0.5"]
    flags += ["--image_size", "32", "--resize", "36", "--num_threads", "1", "--batch_size", "2"]  # 2 steps an epoch
    job = cluster.sbatch(
        "--nodes=2", "slurm/search.sbatch", *SEARCH[1:], *flags, "--save", "unedited", cwd=checkout, env=environment()
    )
    log = checkout / "slurm" / "logs" / f"search-{job}.out"
    assert cluster.wait(job)["JobState"] == "COMPLETED", log.read_text()
    (folder,) = checkout.glob(f"runs/train_search-unedited-*-{job}")
    assert "+ srun" in log.read_text() and outcome(folder) == undisturbed((*SEARCH, *flags), 2)


@pytest.mark.parametrize(
    ("options", "cpus"),
    [("--exclusive", 4), ("--cpus-per-task=3", 3), ("--gpus-per-node=2 --cpus-per-gpu=2", 4), ("--ntasks=1", 1)],
)
def test_a_step_has_all_cpus_of_its_job(options, cpus, cluster: Cluster, checkout: Path, tmp_path: Path):
    script = tmp_path / "job"
    script.write_text("#!/usr/bin/env bash\n. slurm/job.sh\neach_node sh -c 'echo \"cpus $SLURM_CPUS_ON_NODE\"'\n")
    job = cluster.sbatch(*options.split(), f"--output={tmp_path}/log", script, cwd=checkout, env=environment())
    assert cluster.wait(job)["JobState"] == "COMPLETED"
    assert f"cpus {cpus}\n" in (tmp_path / "log").read_text()


def save_photos(folder: Path) -> None:
    """Save 24 photos in two classes, 16 of them to train on."""
    draw = np.random.default_rng(0)
    for index in range(24):
        image = folder / ("val" if index % 3 == 2 else "train") / "ab"[index % 2] / f"{index}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(image)


def stage_and_train(cluster: Cluster, checkout: Path, folder: Path) -> str:
    """Submit a training on 24 photos, which two nodes copy to disk/FOLDER's name/imagenet; return the job."""
    save_photos(folder / "imagenet")
    flags = ["--config", "configs/imagenet/smoke.yaml", "--loader", "dali", "--device", "cpu", "--epochs", "1"]
    flags += ["--batch_size", "4", "--global_batch_size", "8", "--warmup_epochs", "0", "--memory_check", "off"]
    flags += ["--image_size", "32", "--resize", "36", "--init_channels", "4", "--layers", "3", "--no-tensorboard"]
    return cluster.sbatch(
        "--nodes=2", "--gpus-per-node=1", f"--output={folder}/log", "slurm/imagenet.sbatch", *flags,
        "--save", f"{folder}/run/", cwd=checkout,
        env=environment(STAGE=f"{folder}/imagenet", NODE_DISK=f"{cluster.disk}/{folder.name}"),
    )  # fmt: skip


def staged_photos(cluster: Cluster, node: str, folder: Path) -> dict[str, int]:
    """Return the inode of each photo on a node's disk: a photo that is copied again gets another."""
    return {path.name: path.stat().st_ino for path in (cluster.folder / f"disk-{node}" / folder.name).rglob("*.jpg")}


@contextmanager
def hold_staging(cluster: Cluster, node: str, folder: Path) -> Iterator[Callable[[], bool]]:
    """Let a node's copy wait for one that never ends; yields whether it has come to that."""
    lock = cluster.folder / f"disk-{node}" / folder.name / "imagenet" / ".staging.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield partial(is_waited_for, os.fstat(file.fileno()))


def is_waited_for(lock: os.stat_result) -> bool:
    """Whether a process waits for a lock, proc(5): 1: -> FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF."""
    inode = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(inode in words for words in waiting)


def test_imagenet_is_copied_to_each_nodes_disk_and_trained_from_there_also_by_a_job_that_must_end_amid_the_copying(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    with hold_staging(cluster, "node1", tmp_path):
        job = stage_and_train(cluster, checkout, tmp_path)
        wait_until(lambda: len(staged_photos(cluster, "node2", tmp_path)) == 24, 240, "node2's copy")
        cluster.run("scancel", "--batch", "--signal=USR1", job)  # what Slurm sends 300 s before the time limit
        cluster.wait(job, "PENDING", *ENDED)
    copied = staged_photos(cluster, "node2", tmp_path)
    ended, log = cluster.wait(job), (tmp_path / "log").read_text()
    assert ended["JobState"] == "COMPLETED" and ended["Restarts"] == "1" and "+ scontrol requeue" in log, log
    assert staged_photos(cluster, "node2", tmp_path) == copied and len(copied) == 24  # none is copied again
    assert sorted(staged_photos(cluster, "node1", tmp_path)) == sorted(copied)
    assert (tmp_path / "run" / "result.json").exists()


def test_a_job_that_must_end_before_it_copied_anything_does_not_come_back(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    with hold_staging(cluster, "node1", tmp_path) as first, hold_staging(cluster, "node2", tmp_path) as second:
        job = stage_and_train(cluster, checkout, tmp_path)
        cluster.wait_for(lambda: first() and second(), "both nodes' copies")
        cluster.run("scancel", "--batch", "--signal=USR1", job)
        ended = cluster.wait(job, "PENDING", *ENDED)
    assert ended["JobState"] == "FAILED" and ended["ExitCode"] == "1:0", (tmp_path / "log").read_text()


def test_a_job_submitted_from_elsewhere_says_where_to_submit_it(cluster: Cluster, checkout: Path, tmp_path: Path):
    job = cluster.sbatch(f"--output={tmp_path}/log", checkout / "slurm" / "search.sbatch", cwd=tmp_path)
    assert cluster.wait(job)["ExitCode"].startswith("2:")
    assert "submit from the checkout's top folder" in (tmp_path / "log").read_text()


def test_a_second_job_on_a_run_folder_is_refused_in_one_line(cluster: Cluster, checkout: Path, tmp_path: Path):
    lock = "import sys, time; from pathlib import Path; from darts_hpc.locks import lock_run_folder\n"
    lock += "with lock_run_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(1000)"
    python = environment()["PYTHON"]
    first = cluster.sbatch(
        "--nodelist=node1", f"--output={tmp_path}/first", "--export=ALL", "--wrap",
        f"exec {python} -c \"{lock}\" '{tmp_path}/run'", cwd=checkout, env=environment(),
    )  # fmt: skip
    cluster.wait_for(lambda: "locked" in "".join(log.read_text() for log in tmp_path.glob("first")), "the lock")
    second = cluster.run(
        "srun", "--nodes=1", "--nodelist=node2", "--ntasks=2", python, "-m", "darts_hpc.train", *TRAIN[1:],
        "--save", f"{tmp_path}/run/", cwd=checkout, env=environment(), check=False,
    )  # fmt: skip
    errors = [line for line in second.stderr.splitlines() if line.startswith("error:")]
    assert second.returncode == 2 and len(errors) == 1 and "Traceback" not in second.stderr, second.stderr
    assert errors[0].startswith("error: ") and "on node1" in errors[0] and "in use by process" in errors[0]
    cluster.run("scancel", "--signal=KILL", "--full", first)
    cluster.wait(first)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--layers", "2"], "--layers 2"),  # found by every process, before they meet
        (["--arch", "/nowhere.json"], "/nowhere.json"),  # found when they have met
    ],
)
def test_a_mistake_under_torchrun_is_said_once_and_not_tried_again(flags, line, checkout: Path, tmp_path: Path):
    code = run("launch/local.sh", *TRAIN, *flags, cwd=checkout, log=tmp_path / "log", PROCESSES="2")
    said = (tmp_path / "log").read_text()
    errors = [text for text in said.splitlines() if text.startswith("error:")]
    assert code == 2 and len(errors) == 1 and line in errors[0] and "Traceback" not in said, said


@pytest.mark.parametrize("script", ["launch/local.sh", "launch/multinode.sh", "launch/mpi.sh 2"])
@pytest.mark.parametrize("entry", ["train_imagenett", "counter_rng", "train train_imagenet"])
def test_what_is_no_entry_point_is_refused_with_those_there_are(script, entry, checkout: Path, tmp_path: Path):
    where = {"NODES": "1", "HEAD": "localhost"}
    assert run(*script.split(), entry, "--epochs", "1", cwd=checkout, log=tmp_path / "log", **where) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(f"error: no entry point '{entry}'; choose from campaign, evaluate, ")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (apt: shellcheck)")
def test_scripts_pass_shellcheck(checkout: Path, tmp_path: Path):
    root = Path(__file__).parents[2]
    scripts = [*root.glob("launch/*.sh"), *root.glob("slurm/*.s*"), *root.glob("tests/cluster/*.sh"), root / ".ci/run"]
    assert len(scripts) >= 12
    code = run("shellcheck", "--external-sources", *scripts, cwd=root, log=tmp_path / "log")
    assert code == 0, (tmp_path / "log").read_text()
