"""A run leaves the process as it found it."""

import importlib
import os

import pytest
import torch

from darts_hpc.training.seeding import seed_everything, settings_restored

dynamo = importlib.import_module("torch._dynamo").config


def settings() -> tuple:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        dynamo.recompile_limit,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_everything_a_run_sets_is_put_back_even_if_it_fails(workspace, monkeypatch):
    if workspace is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before = settings()
    with pytest.raises(ZeroDivisionError), settings_restored(compiles=True):
        seed_everything(0, deterministic=True)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = not torch.backends.cuda.matmul.allow_tf32
        dynamo.recompile_limit += 100
        assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
        raise ZeroDivisionError
    assert settings() == before


def test_what_a_user_had_set_stays_set(monkeypatch):
    torch.use_deterministic_algorithms(True)
    try:
        with settings_restored():
            seed_everything(0, deterministic=True)
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
