"""A run on another GPU than the first."""

import json
import subprocess
import sys

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")]


@pytest.mark.parametrize("flags", [["--gpu", "1"], ["--device", "cuda:1"]])
def test_a_search_with_fused_steps_runs_on_the_second_gpu(flags, tmp_path):
    flags = ["--dataset", "digits", "--epochs", "1", "--layers", "3", "--supernet", "fast", "--no-tensorboard", *flags]
    command = [sys.executable, "-m", "darts_hpc.train_search", *flags, "--save", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["device"] == "cuda:1"
