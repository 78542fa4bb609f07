"""Jobs leave their exit codes as JSON; nothing in a campaign's folder is ever unpickled."""

import json
import os
import pickle
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darts_hpc.campaigns import executors
from darts_hpc.campaigns.command import read_result, write_result
from darts_hpc.campaigns.executors import LocalExecutor, SlurmExecutor, attempt_folder, exit_code, gpu_names
from darts_hpc.campaigns.state import Attempt, log_path
from darts_hpc.config.campaign import CampaignConfig, CampaignSizeConfig

CFG = CampaignConfig(size=CampaignSizeConfig(device="cpu"))


class Attack:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def job(*arguments: str) -> Any:
    """A job that is any module with a command line."""
    return SimpleNamespace(name="job", command=lambda folder: list(arguments))


def test_a_pickle_in_a_campaigns_folder_is_not_loaded(tmp_path: Path):
    mark = tmp_path / "mark"
    folder = attempt_folder(tmp_path, job(), 0)
    folder.mkdir(parents=True)
    for name in ("7_0_result.pkl", "7_submitted.pkl", "7.json"):
        (folder / name).write_bytes(pickle.dumps(("success", Attack(mark))))
    assert exit_code(tmp_path, job(), 0, Attempt("local", "7", 0.0)) is None
    assert not mark.exists()
    pickle.loads((folder / "7.json").read_bytes())
    assert mark.exists()  # so it would have been seen


@pytest.mark.parametrize(("arguments", "code"), [(("json.tool", "--help"), 0), (("json.tool", "/nowhere"), 1)])
def test_a_job_of_this_machine_leaves_its_exit_code_and_no_pickle(tmp_path: Path, arguments, code: int):
    (tmp_path / "jobs").mkdir()
    executor = LocalExecutor(CFG, tmp_path, num_gpus=0)
    attempt = executor.submit(job(*arguments), 0, [])
    assert executor.active({"job": attempt}) == {"job"}
    executor._processes[attempt.id].wait()
    left = exit_code(tmp_path, job(), 0, attempt)
    assert left is not None and (left > 0) == code, log_path(tmp_path, job()).read_text()
    assert not list(tmp_path.rglob("*.pkl*"))


def test_a_job_of_slurm_is_a_command_in_a_script_that_no_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\ncat > {tmp_path}/script\necho '17;cluster'\n")
    for name in ("squeue", "srun"):
        (sbatch.parent / name).write_text("#!/bin/sh\n")
    for program in sbatch.parent.iterdir():
        program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    attempt = SlurmExecutor(CFG, tmp_path).submit(job("json.tool", "a b"), 3, [])
    assert attempt.id == "17"
    results, log = attempt_folder(tmp_path, job(), 3), log_path(tmp_path, job())
    script = (tmp_path / "script").read_text()
    command = shlex.split(script.splitlines()[-1] or script.splitlines()[-2])
    started = [sys.executable, "-u", "-m", "darts_hpc.campaigns.command", str(results), str(log), "slurm", "1"]
    assert command[0] == "srun" and command[command.index(sys.executable) :][:8] == started
    assert command[-2:] == ["json.tool", "a b"]
    assert not list(tmp_path.rglob("*.pkl*")) and not list(results.iterdir())


def test_a_job_that_slurm_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch):
    refused = subprocess.CompletedProcess([], 1, "", "sbatch: error: x\nsbatch: error: Invalid partition\n")
    monkeypatch.setattr(executors.subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(ValueError, match=r"^Slurm refused job: sbatch: error: Invalid partition$"):
        executors._sbatch("", "job")


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"exit_code": true}', '{"exit_code": "0"}', "[" * 100_000])
def test_a_result_of_another_shape_is_none(tmp_path: Path, content: str):
    (tmp_path / "7.json").write_text(content)
    assert read_result(tmp_path, "7") is None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing"])
def test_a_result_that_is_no_file_is_none(tmp_path: Path, kind: str):
    path = tmp_path / "7.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    assert read_result(tmp_path, "7") is None


def test_a_result_is_read_back(tmp_path: Path):
    write_result(tmp_path, "7", 143)
    assert read_result(tmp_path, "7") == 143 and json.loads((tmp_path / "7.json").read_text()) == {"exit_code": 143}


def test_jobs_take_the_gpus_that_the_campaign_was_given():
    assert gpu_names([0, 2], {}) == ["0", "2"]
    assert gpu_names([1, 0], {"CUDA_VISIBLE_DEVICES": "4,GPU-abc"}) == ["GPU-abc", "4"]
