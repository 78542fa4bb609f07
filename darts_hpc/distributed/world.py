"""The processes of a run and the collectives over them. With one process every collective is the identity."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among `size` processes."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @classmethod
    @contextmanager
    def open(cls, device: str = "auto", gpu: int = 0) -> "Iterator[World]":
        """Join the process group that torchrun describes (or be alone), and leave it at the end.

        Args:
            device: auto, cpu, cuda or cuda:N; auto takes CUDA where there is one.
            gpu: index of the CUDA device when one process runs alone.

        Raises:
            ValueError: the device does not exist.
        """
        size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        world = cls(_choose_device(device, gpu if size == 1 else int(os.environ.get("LOCAL_RANK", 0))), rank, size)
        if world.device.type == "cuda":
            torch.cuda.set_device(world.device)
        if size > 1:
            dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo", rank=rank, world_size=size)
        try:
            yield world
            world.barrier()  # gloo aborts a rank whose peers tear the group down while it still answers
        finally:
            if size > 1:
                dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks."""
        if self.size == 1:
            return tensor
        total = tensor.clone(memory_format=torch.contiguous_format)  # ranks may differ in strides, as after no images
        dist.all_reduce(total)
        return total

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means over ranks; one all-reduce for all tensors of a call, which share a dtype."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def average_gradients_(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over ranks. Parameters that got none (the same on all ranks) stay so."""
        if self.size > 1:
            held = [p for p in parameters if p.grad is not None]
            for parameter, mean in zip(held, self.mean([p.grad for p in held if p.grad is not None]), strict=True):
                parameter.grad = mean

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with rank 0's, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather_objects(self, value: object) -> list:
        """Return every rank's value, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value):
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


def job_name() -> str:
    """Return what tells this run apart from others started in the same second: Slurm's job and task, or the pid."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if job is None:
        return str(os.getpid())
    return "_".join(filter(None, (job, os.environ.get("SLURM_ARRAY_TASK_ID"))))


def _choose_device(device: str, index: int) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    name = f"cuda:{index}" if device in ("auto", "cuda") else device
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {device!r} is unknown; choose auto, cpu, cuda or cuda:N") from None
    if chosen.type != "cuda":
        raise ValueError(f"--device {device!r} is unknown; choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise ValueError(f"--device {device} needs CUDA, which this machine does not have; use --device cpu")
    if chosen.index >= torch.cuda.device_count():
        raise ValueError(f"{name} does not exist: this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen
