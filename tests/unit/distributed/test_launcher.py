"""Rank and size come whole from one launcher, or are refused. Real launchers: tests/cluster."""

import os
import sys
import types

import pytest

from darts_hpc.distributed.launcher import (
    RankInfo,
    detect_launcher,
    first_host,
    is_first_process,
    job_name,
)

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}
BATCH = {
    "SLURM_JOB_ID": "71",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_NODELIST": "n[1-2]",
}
STEP = {
    **BATCH,
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("env", "info"),
    [
        ({}, RankInfo("none")),
        (TORCHRUN, RankInfo("torchrun", 3, 4, 1, "node7", 29500)),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"}, RankInfo("torchrun", 3, 4, 1, "127.0.0.1", 29500, True)),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_USE_AGENT_STORE": "True"},
         RankInfo("torchrun", 3, 4, 1, "node7", 29500, True, True)),
        (STEP, RankInfo("Slurm", 5, 8, 1, "n1", 20000 + 71 * 16 + 2)),
        ({**STEP, "SLURM_STEP_NODELIST": "n1"}, RankInfo("Slurm", 5, 8, 1, "127.0.0.1", 20000 + 71 * 16 + 2, True)),
        (BATCH, RankInfo("none")),  # the batch script itself is one process, however many tasks srun would start
        ({**STEP, "MASTER_ADDR": "stale", "MASTER_PORT": "1"}, RankInfo("Slurm", 5, 8, 1, "n1", 20000 + 71 * 16 + 2)),
        # srun starts one torchrun per node: torchrun is the innermost
        ({**STEP, **TORCHRUN, "SLURM_STEP_NUM_TASKS": "2", "GROUP_WORLD_SIZE": "2"},
         RankInfo("torchrun", 3, 4, 1, "node7", 29500)),
        # --mpi=pmi2
        ({**STEP, "PMI_RANK": "5", "PMI_SIZE": "8"}, RankInfo("Slurm", 5, 8, 1, "n1", 20000 + 71 * 16 + 2)),
        ({**STEP, "OMPI_COMM_WORLD_SIZE": "1"}, RankInfo("none")),  # mpirun -n 1 in an interactive step
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, RankInfo("none")),
    ],
    ids=["alone", "torchrun", "torchrun on one node", "torchrun listens", "srun", "srun on one node", "batch",
         "stale address", "srun torchrun", "srun pmi2", "mpirun 1", "hydra 1"],
)  # fmt: skip
def test_rank_and_size_are_those_of_the_innermost_launcher(env, info):
    assert detect_launcher(env) == info


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RANK": "0"}, "RANK set, but not WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({**STEP, "WORLD_SIZE": "8"}, "WORLD_SIZE set, but not RANK"),
        ({**TORCHRUN, "RANK": "4"}, "rank 4, local rank 1 of 4 processes"),
        ({**TORCHRUN, "WORLD_SIZE": "four"}, "WORLD_SIZE='four': expected a whole number"),
        ({**TORCHRUN, "MASTER_PORT": "0"}, "MASTER_PORT=0: expected 1 to 65535"),
        ({**TORCHRUN, "MASTER_PORT": "65536"}, "MASTER_PORT=65536: expected 1 to 65535"),
        ({**TORCHRUN, **STEP, "GROUP_WORLD_SIZE": "1"}, "srun started 8 torchruns"),
        ({name: STEP[name] for name in STEP if name != "SLURM_LOCALID"}, "not SLURM_LOCALID"),
        ({**STEP, "SLURM_PROCID": "8"}, "rank 8"),
    ],
)
def test_half_an_answer_or_a_contradiction_is_refused(env, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        detect_launcher(env)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node1", "node1"),
        ("node[07-09,12],login", "node07"),
        ("gpu-a,gpu-b[1-2]", "gpu-a"),
        ("rack[2-3]n[0,4-5]-ib,x", "rack2n0-ib"),
        ("n[12]", "n12"),
    ],
)
def test_the_first_host_of_a_node_list(nodes, host):
    assert first_host(nodes) == host


def test_steps_of_a_job_and_neighbouring_jobs_meet_at_ports_of_their_own():
    ports = {
        detect_launcher({**STEP, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).port
        for job in range(100, 140)
        for step in range(16)
    }
    assert len(ports) == 640 and all(1024 < port < 32768 for port in ports)


def fake_mpi(monkeypatch, size: int, on_node: int = 2) -> list[str]:
    calls: list[str] = []
    communicator = types.SimpleNamespace(
        rank=0,
        size=size,
        Split_type=lambda kind: types.SimpleNamespace(rank=0, size=on_node),
        bcast=lambda value, root: value,
    )
    mpi = types.SimpleNamespace(
        COMM_WORLD=communicator,
        COMM_TYPE_SHARED=1,
        Get_library_version=lambda: "Some MPI 5\nmore",
        Finalize=lambda: calls.append("finalized"),
    )
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=mpi))
    return calls


def test_mpirun_says_it_through_mpi4py_even_inside_slurm(monkeypatch):
    calls = fake_mpi(monkeypatch, size=4)
    place = detect_launcher({**STEP, "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"})
    assert (place.launcher, place.rank, place.size) == ("MPI", 0, 4) and place.port > 0
    assert calls == ["finalized"] and not place.on_one_node and place.address != "127.0.0.1"
    fake_mpi(monkeypatch, size=4, on_node=4)
    place = detect_launcher({"PMI_SIZE": "4", "PMI_RANK": "0"})
    assert place.on_one_node and place.address == "127.0.0.1"


def test_mpi4py_of_another_mpi_is_refused_instead_of_four_runs_of_one(monkeypatch):
    fake_mpi(monkeypatch, size=1)
    with pytest.raises(ValueError, match=r"started 4 processes, but mpi4py sees 1.*Some MPI 5"):
        detect_launcher({"PMI_SIZE": "4", "PMI_RANK": "0"})


def test_without_mpi4py_mpirun_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"pip install 'darts_hpc\[mpi\]'"):
        detect_launcher({"PMI_SIZE": "4", "PMI_RANK": "0"})


def test_one_process_of_many_reports_a_bad_flag():
    assert is_first_process({}) and is_first_process(BATCH)
    assert not is_first_process(TORCHRUN) and is_first_process({**TORCHRUN, "RANK": "0"})
    assert not is_first_process(STEP) and is_first_process({**STEP, "SLURM_PROCID": "0"})
    assert is_first_process({**STEP, **TORCHRUN, "RANK": "0"})  # a torchrun on each node
    assert not is_first_process({"PMI_RANK": "2"}) and not is_first_process({"OMPI_COMM_WORLD_RANK": "1"})


def test_a_job_is_called_by_slurms_number_or_torchruns_id_or_its_own_pid():
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_JOB_ID": "71"}
    assert [job_name({**array, "SLURM_ARRAY_TASK_ID": task}) for task in "012"] == ["70_0", "70_1", "70_2"]
    assert job_name({"SLURM_JOB_ID": "71", "TORCHELASTIC_RUN_ID": "x"}) == "71"
    assert job_name({"TORCHELASTIC_RUN_ID": "0f3a-77/b"}) == "0f3a_77_b"
    assert job_name({}) == job_name({"TORCHELASTIC_RUN_ID": "none"}) == str(os.getpid())
