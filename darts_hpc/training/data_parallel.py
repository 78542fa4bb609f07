"""One network on many processes: torch's DistributedDataParallel, set up for bitwise restarts."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.world import World
from darts_hpc.training.precision import Precision


def data_parallel(network: nn.Module, example: Batch, precision: Precision, world: World) -> nn.Module:
    """Return the network under DDP, which averages gradients over ranks as backward makes them.

    With one process it is the network itself. `example` is a batch of the training's shape, for two throw-away steps.
    BatchNorm's running statistics stay each rank's own.
    """
    if world.size == 1:
        return network
    world.broadcast_([tensor.detach() for tensor in (*network.parameters(), *network.buffers())])
    parallel = DistributedDataParallel(
        network,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        static_graph=True,
        init_sync=False,  # done above, tensor by tensor: DDP's fails on a lone 1x1 kernel in channels_last
        **_own_buffers(),
    )
    _rebuild_buckets(parallel, example, precision)
    return parallel


def synchronised(network: nn.Module, on: bool) -> AbstractContextManager[object]:
    """Average gradients in this backward, or only add them up on this rank (the batches before the last of a step)."""
    return nullcontext() if on or not isinstance(network, DistributedDataParallel) else network.no_sync()


def _own_buffers() -> dict[str, Any]:
    new = "forward_sync_buffers" in DistributedDataParallel.__init__.__annotations__  # torch 2.13
    return {"forward_sync_buffers" if new else "broadcast_buffers": False}


def _rebuild_buckets(network: nn.Module, example: Batch, precision: Precision) -> None:
    """Run two throw-away forward and backward passes, after which DDP has its final buckets. Buffers are restored.

    DDP sorts its buckets by the arrival of gradients in its first backward (of a static graph, the first two), which
    changes the order of addition over three or more ranks, and so the last bits. Done before the first step, a new run
    and a resumed one add in the same order. A static graph also needs a backward with averaging before one without.
    """
    network.train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    for _ in range(2):
        with precision.autocast():
            outputs: tuple[Tensor | None, ...] = network(example.images, example.keys)
        torch.stack([output.float().sum() for output in outputs if output is not None]).sum().backward()
        network.zero_grad()
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
