"""launch/*.sh count the processes of a node as CUDA does, and refuse what is no count or entry in one line."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def launch(script: str, *arguments: str, path: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose Python and mpirun only print what they would be started with."""
    keep = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    return subprocess.run(
        [ROOT / "launch" / script, *arguments],
        env={**keep, "PATH": f"{path}:/usr/bin:/bin", "PYTHON": "echo", "MPIRUN": "echo", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, 1),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 1),
        ({"CUDA_VISIBLE_DEVICES": " "}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "0,1,-1,2"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a-11,GPU-2b-1"}, 2),
        ({}, 4),
        ({"PROCESSES": "3"}, 3),
        ({"PROCESSES": "3", "CUDA_VISIBLE_DEVICES": ""}, 3),
    ],
)
@pytest.mark.parametrize("script", ["local.sh", "multinode.sh"])
def test_a_node_gets_a_process_per_gpu_that_is_visible(script, environment, processes, tmp_path: Path):
    """On a machine whose nvidia-smi lists four."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor i in 0 1 2 3; do echo GPU $i: H200; done\n")
    (tmp_path / "nvidia-smi").chmod(0o700)
    started = launch(script, "train", path=str(tmp_path), NODES="1", HEAD="here", **environment)
    assert started.returncode == 0 and f"--nproc-per-node={processes} " in started.stdout, started.stderr


@pytest.mark.parametrize("broken", [True, False])
def test_without_a_working_nvidia_smi_there_is_one_process(broken, tmp_path: Path):
    if broken:
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed; exit 9\n")
        (tmp_path / "nvidia-smi").chmod(0o700)
    started = launch("local.sh", "train", path=str(tmp_path))
    assert started.returncode == 0 and "--nproc-per-node=1 " in started.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "said"),
    [
        ("local.sh", ["train"], {"PROCESSES": "abc"}, "PROCESSES='abc': expected a whole number from 1"),
        ("local.sh", ["train"], {"PROCESSES": "0"}, "PROCESSES='0': expected"),
        ("local.sh", ["train"], {"PROCESSES": "-2"}, "PROCESSES='-2': expected"),
        ("local.sh", ["train"], {"PROCESSES": "2\n3"}, r"PROCESSES=$'2\n3': expected"),
        ("local.sh", ["train"], {"PROCESSES": "9" * 30}, "expected a whole number from 1 to"),
        ("local.sh", ["train"], {"MAX_RESTARTS": "many"}, "MAX_RESTARTS='many': expected a whole number from 0"),
        ("local.sh", ["train\nreport"], {}, r"no entry point $'train\nreport'; choose from"),
        ("local.sh", ["train\n"], {}, r"no entry point $'train\n'; choose from"),
        ("local.sh", ["trian"], {}, "no entry point 'trian'; choose from"),
        ("multinode.sh", ["train\ntrain"], {}, r"no entry point $'train\ntrain'; choose from"),
        ("multinode.sh", ["train"], {"PROCESSES": "0"}, "PROCESSES='0': expected"),
        ("multinode.sh", ["train"], {"NODES": "two"}, "NODES='two': expected"),
        ("multinode.sh", ["train"], {"PORT": "65536"}, "PORT='65536': expected a whole number from 1 to 65535"),
        ("mpi.sh", ["abc", "train"], {}, "PROCESSES='abc': expected"),
        ("mpi.sh", ["0", "train"], {}, "PROCESSES='0': expected"),
        ("mpi.sh", ["2", "train\nx"], {}, r"no entry point $'train\nx'; choose from"),
    ],
)
def test_what_is_no_count_and_no_entry_is_one_line(script, arguments, environment, said):
    refused = launch(script, *arguments, **{"NODES": "2", "HEAD": "here", **environment})
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1 and said in refused.stderr
