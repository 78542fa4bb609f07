"""Number formats of a step: float32, or autocast to bfloat16 or float16, the latter with loss scaling. And layouts."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

LEAST_SCALE = 1.0
"""Smallest loss scale in fp16: a lower one would shrink gradients, which scaling is to enlarge."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(asked: str, device: torch.device) -> str:
    """Return bf16, fp16 or fp32. auto takes bf16 on GPUs that compute in it, and fp32 elsewhere.

    Raises ValueError for fp16 without a GPU, and for bf16 on a GPU that only emulates it.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "auto":
        return "bf16" if has_bf16 else "fp32"
    if asked == "fp16" and device.type != "cuda":
        raise ValueError(f"--precision fp16 needs a GPU, and this run is on {device}; choose fp32, or bf16")
    if asked == "bf16" and device.type == "cuda" and not has_bf16:
        raise ValueError("--precision bf16: this GPU does not compute in bfloat16; choose fp16, or fp32")
    return asked


def memory_format(channels_last: bool) -> torch.memory_format:
    """Return the memory format of images and weights for --channels_last."""
    return torch.channels_last if channels_last else torch.contiguous_format


class Precision:
    """Autocast, loss scaling and the optimizer's step in one number format.

    `skipped` counts, on the device, the steps whose gradient was not finite. In fp16 the scaler leaves such a step out:
    weights and momentum stay, and the scale is halved. All ranks skip the same steps, as gradients are averaged before.
    Learning rates depend on the epoch alone, not on skipped steps. In other formats such a step ends the run.
    """

    def __init__(self, name: str, device: torch.device, reports_skipped: bool = True):
        self.name, self.device, self.reports_skipped = name, device, reports_skipped
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)

    def autocast(self) -> AbstractContextManager[object]:
        """Return torch's autocast to the format; weights, losses and BatchNorm's statistics stay float32."""
        # No cache: no weight is cast twice, and a CUDA graph could not replay what an earlier step has cast.
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.name], cache_enabled=False)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the loss (0-d), scaled in fp16."""
        self.scaler.scale(loss).backward()

    def clip_and_step(
        self, optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter], grad_clip: float
    ) -> Tensor:
        """Unscale, clip and apply the gradients, and drop them; return their norm (0-d) before clipping."""
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(weights, grad_clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        self.skipped += ~norm.isfinite()
        return norm

    def numbers(self) -> dict[str, Tensor]:
        """Return what a run reports of it: the steps skipped so far, or nothing without `reports_skipped`."""
        return {"skipped_steps": self.skipped} if self.reports_skipped else {}

    def can_continue(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Return whether a run can continue after a step of this loss and gradient norm (0-d), as a bool on the device.

        Both have to be finite. In fp16, where overflows are normal, the scale has to be at least LEAST_SCALE instead.
        """
        if self.name == "fp16":
            scale = self.scaler._get_scale_async()  # get_scale waits for the device
            assert scale is not None  # there was a backward
            return (scale >= LEAST_SCALE).all()
        return loss.isfinite() & norm.isfinite()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, and what decides when it changes."""
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict gave."""
        self.scaler.load_state_dict(state["scaler"])
        self.skipped.copy_(state["skipped"])
