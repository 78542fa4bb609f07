"""Seeds, the choice between fast and deterministic algorithms, and torch's global settings restored after a run."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed torch's global generators, which draw the initial weights and alphas.

    Data order, augmentation and drop path don't use them. `deterministic` also selects algorithms that repeat bit for
    bit on a GPU, with a warning where torch has none; the CPU's do so anyway for a fixed number of threads.
    """
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def settings_restored(compiles: bool = False) -> Iterator[None]:
    """On exit, restore what a run sets for the whole process, so that the next run in it starts from the same settings.

    These are cuDNN's benchmark mode, deterministic algorithms, TF32, and, for a run that `compiles`, the number of
    graphs that torch.compile keeps.
    """
    dynamo = importlib.import_module("torch._dynamo").config if compiles else None  # takes seconds
    graphs = None if dynamo is None else dynamo.recompile_limit
    backends, workspace = torch.backends, os.environ.get(WORKSPACE)
    benchmark, cudnn_tf32, tf32 = backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    determinism = _determinism()
    try:
        yield
    finally:
        if _determinism() != determinism:  # to set it imports torch's compiler: 1.7 s
            torch.use_deterministic_algorithms(determinism[0], warn_only=determinism[1])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = benchmark, cudnn_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        if dynamo is not None:
            dynamo.recompile_limit = graphs
        os.environ.pop(WORKSPACE, None)
        if workspace is not None:
            os.environ[WORKSPACE] = workspace


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
