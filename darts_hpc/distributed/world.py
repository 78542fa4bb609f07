"""The processes of a run and the collectives over them. With one process every collective is the identity."""

import datetime
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

from darts_hpc.distributed.addresses import LOOPBACK_INTERFACE, named_address, own_interface
from darts_hpc.distributed.error_channel import ErrorChannel
from darts_hpc.distributed.launcher import RankInfo, detect_launcher, end_with_launcher
from darts_hpc.errors import Stopped


@dataclass(frozen=True)
class World:
    """This process among `size` processes."""

    device: torch.device
    rank: int = 0
    size: int = 1

    control: dist.ProcessGroup | None = None
    """A group on CPUs (gloo), for small messages that must not wait for the device."""

    before_leaving: list[Callable[[], None]] = field(default_factory=list, compare=False)
    """Called before the processes part: they release what holds on to the group, such as a CUDA graph."""

    @classmethod
    @contextmanager
    def open(cls, device: str = "auto", gpu: int = 0, timeout_s: float = 600) -> "Iterator[World]":
        """Join the processes that torchrun, Slurm or MPI started (or be alone), and leave them at the end.

        A ValueError in the body on any rank ends every rank with exit code 2; rank 0 alone raises it.

        Args:
            device: auto, cpu, cuda or cuda:N; auto takes CUDA where there is one.
            gpu: index of the CUDA device when one process runs alone.
            timeout_s: how long a rank waits for the others in a collective.

        Raises:
            ValueError: the launcher contradicts itself, the processes can't meet, or a device does not exist.
        """
        info = detect_launcher()
        if info.launcher != "none":
            end_with_launcher()
        if info.size == 1:
            yield cls(_use(_choose_device(device, gpu)))
            return
        channel = ErrorChannel(info, timeout_s)
        try:
            world = cls._join(info, channel, device, datetime.timedelta(seconds=timeout_s))
            stopped = None
            try:
                yield world
            except Stopped as stop:  # on every rank, after the same step
                stopped = stop
            for release in world.before_leaving:
                release()
            world.barrier()  # gloo aborts a rank whose peers tear the group down while it still answers
            channel.close()
            dist.destroy_process_group()
            if stopped is not None:
                raise stopped
        except ValueError as mistake:
            channel.leave(str(mistake))
            raise
        except RuntimeError as error:
            reported = channel.mistake()
            if reported is None:
                of_collective = re.search(r"gloo|nccl|timed out", str(error), re.IGNORECASE) is not None
                if of_collective and (silent := channel.silent_ranks()):
                    error.add_note(f"no answer from rank {silent}, which hangs or is gone: see its log.rank*.txt")
                raise
            channel.leave(reported)
            raise ValueError(reported) from None
        finally:
            channel.close()

    @classmethod
    def _join(cls, info: RankInfo, channel: ErrorChannel, device: str, timeout: datetime.timedelta) -> "World":
        if not torch.cuda.is_available() or info.local_rank < torch.cuda.device_count() or device == "cpu":
            chosen = _choose_device(device, info.local_rank)
        elif torch.cuda.device_count() == 1:  # maybe each process was given one GPU as its own; else see below
            chosen = _choose_device(device, 0)
        else:
            raise ValueError(
                f"local rank {info.local_rank} of {socket.gethostname()} finds {torch.cuda.device_count()} GPUs; "
                "start no more processes per node than it has GPUs"
            )
        _use(chosen)
        _check_devices(channel.exchange("device", _device_name(chosen)))
        if interface := _gloo_interface(info):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        _check_interface("NCCL_SOCKET_IFNAME" if chosen.type == "cuda" else "GLOO_SOCKET_IFNAME")
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        group = PrefixStore("group", channel.store)
        dist.init_process_group(backend, store=group, rank=info.rank, world_size=info.size, timeout=timeout)
        control = dist.new_group(backend="gloo", timeout=timeout)
        assert isinstance(control, dist.ProcessGroup)
        return cls(chosen, info.rank, info.size, control)

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
        """Return the means over ranks; one exchange for all tensors of a call, which share a dtype.

        Each element is added up on one rank, in the order of the ranks: its bits depend neither on its place among the
        others nor on the transport, whose all-reduce adds in an order of its own. As many bytes pass as in a ring.
        """
        if self.size == 1:
            return list(tensors)
        vector = torch.cat([tensor.reshape(-1) for tensor in tensors])
        vector = F.pad(vector, (0, -len(vector) % self.size))
        received = torch.empty_like(vector)
        dist.all_to_all_single(received, vector)  # the n-th part of every rank, to rank n
        total, *others = received.view(self.size, -1)
        for other in others:
            total += other
        dist.all_gather_into_tensor(vector, total.div_(self.size))
        parts = vector[: sum(tensor.numel() for tensor in tensors)].split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

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
        dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast_object(self, value):
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]


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


def _use(device: torch.device) -> torch.device:
    """Make a GPU the current one, on which streams, graphs and Triton's kernels run; return it."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _device_name(device: torch.device) -> str:
    """Name a device so that two processes can compare theirs."""
    if device.type == "cpu":
        return "cpu"
    return f"{device} of {socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"


def _check_devices(names: Sequence[str]) -> None:
    """Refuse some ranks on GPUs and some on CPUs, and two ranks on one GPU."""
    gpus = [name for name in names if name != "cpu"]
    if gpus and len(gpus) < len(names):
        ranks = ", ".join(str(rank) for rank, name in enumerate(names) if name == "cpu")
        raise ValueError(
            f"rank {ranks} of {len(names)} found no GPU, and the others did; fix that, or use --device cpu"
        )
    by_gpu: dict[str, int] = {}
    for rank, name in enumerate(gpus):
        gpu = " ".join(name.split()[2:])  # host and uuid: what the process calls it may differ
        if gpu in by_gpu:
            raise ValueError(
                f"ranks {by_gpu[gpu]} and {rank} both have {name}; start no more processes per node than it has GPUs"
            )
        by_gpu[gpu] = rank


def _gloo_interface(info: RankInfo) -> str | None:
    """Return where gloo is to listen: between nodes it knows by itself only where this node's name is known."""
    if info.on_one_node:
        return LOOPBACK_INTERFACE if LOOPBACK_INTERFACE in (name for _, name in socket.if_nameindex()) else None
    return own_interface(info.address) if named_address() is None else None


def _check_interface(variable: str) -> None:
    """Refuse a network interface that this node does not have (NCCL's notation: ^not, =exactly, prefixes)."""
    value = os.environ.get(variable, "")
    here = [name for _, name in socket.if_nameindex()]
    names = [name for name in value.removeprefix("=").split(",") if name]
    missing = [name for name in names if not any(there.startswith(name) for there in here)]
    if missing and not value.startswith("^"):
        raise ValueError(
            f"{variable}={value}: {socket.gethostname()} has no {', '.join(missing)}, but {', '.join(here)}; "
            "see slurm/site.sh, or unset it"
        )
