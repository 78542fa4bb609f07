"""Random numbers and algorithms: fast, or the same to the last bit."""

import os

import torch


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed torch's global generators, which draw the initial weights and alphas.

    Data order, augmentation and drop path don't use them. `deterministic` also asks for algorithms that repeat bit for
    bit on a GPU, with a warning where torch has none; the CPU's do so anyway for a fixed number of threads.
    """
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
