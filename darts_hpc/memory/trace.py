"""Trace a step on tensors that have shapes and no memory: its live bytes for any batch size and number of channels."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from darts_hpc.memory.live_bytes import BATCH_SIZE, Footprint, MetaLiveBytes
from darts_hpc.space.phases import meta_stands_for

CUDA_BLOCK = 512
"""Bytes that torch's CUDA allocator rounds a tensor up to."""


class Traced(Protocol):
    """What a trace has to know of a step; it is hashable, too."""

    @property
    def device(self) -> str:
        """Type of the device that it runs on."""
        ...

    @property
    def precision(self) -> str:
        """fp32, or a number format that autocast computes in."""
        ...

    @property
    def scales_with_channels(self) -> bool:
        """Whether one trace serves all numbers of channels."""
        ...

    def build(self, init_channels: int) -> nn.Module:
        """Return a new network of the step."""
        ...


Work = Callable[[Any, Any, int, torch.device], None]
"""(step, its network, batch size, device): work to trace."""


@lru_cache
def footprint(step: Traced, work: Work, init_channels: int) -> Footprint:
    """Return the footprint of work, traced once for each step, work and number of channels."""
    events = trace(step, work, init_channels, BATCH_SIZE).events
    return Footprint(events, scales_with_channels=step.scales_with_channels)


def trace(step: Traced, work: Work, init_channels: int, batch_size: int) -> MetaLiveBytes:
    """Run work on tensors without memory; return the trace of live bytes, the network's among them."""
    if step.precision == "fp32":
        tensors, device = nullcontext(), torch.device("meta")
    else:  # autocast does not support meta tensors; fake ones claim to be on the device, and are slower
        tensors, device = FakeTensorMode(), torch.device(step.device)
    with meta_stands_for(step.device):
        with torch.device("meta"):
            network = step.build(init_channels)  # before the trace, which takes many times longer for as much work
        with tensors, MetaLiveBytes() as live:
            network._apply(lambda old: torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device=device))
            work(step, network, batch_size, device)
    return live


def data_set_bytes(num_images: int, image_size: int) -> int:
    """Return the bytes of a data set that stays on the device as a whole."""
    # pixels, labels, the ids of both halves, in order and in this epoch's order, and their keys and augmentation
    return num_images * (3 * image_size**2 + 8 + 4 * 8 + 8 + 5 * 2)
