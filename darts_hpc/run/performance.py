"""How fast a run is, and what it waits for."""

import functools
import logging
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")

log = logging.getLogger(__name__)


class DataWait:
    """Time that the device waits for the next batch, since the last reading.

    On a GPU that is the time between the end of a step's work and the start of the next one's, by events in its
    stream: a host that waits while the GPU still computes costs nothing, and does not count.
    """

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"
        self.seconds = 0.0
        self.used = False
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield from an iterator, and measure how long each item takes to come."""
        self.used = True
        while True:
            before = self._now()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._add(before, self._now())
            yield batch

    def read(self) -> float:
        """Return the seconds since the last reading. On a GPU it waits for the device."""
        if self._events:
            self._events[-1][1].synchronize()
            self.seconds += sum(before.elapsed_time(after) for before, after in self._events) / 1000
        seconds, self.seconds, self._events = self.seconds, 0.0, []
        return seconds

    def _now(self) -> "float | torch.cuda.Event":
        if not self.on_gpu:
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _add(self, before: "float | torch.cuda.Event", after: "float | torch.cuda.Event") -> None:
        if isinstance(before, float) and isinstance(after, float):
            self.seconds += after - before
        elif isinstance(before, torch.cuda.Event) and isinstance(after, torch.cuda.Event):
            self._events.append((before, after))


class Window:
    """The steps between two reports: their images, their time, and the part of it spent waiting for data."""

    def __init__(self, device: torch.device, size: int):
        self.device, self.size = device, size
        self.wait = DataWait(device)
        self.restart()

    def restart(self) -> None:
        """Begin a new window here."""
        self.wait.read()
        self.start, self.images, self.steps = time.monotonic(), 0, 0

    def add(self, num_images: int) -> None:
        """Count one step, of num_images on this rank."""
        self.images += num_images * self.size
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Return the window's numbers by name, and begin the next one."""
        waited = self.wait.read()
        seconds = max(time.monotonic() - self.start, 1e-9)
        rate = self.images / seconds
        numbers = {
            "images_per_second": rate,
            "images_per_second_per_process": rate / self.size,
            "seconds_per_step": seconds / max(1, self.steps),
            "memory_bytes": peak_memory_bytes(self.device),
        }
        if self.wait.used:
            numbers["data_wait_share"] = waited / seconds
        if (used := gpu_utilisation(self.device)) is not None:
            numbers["gpu_utilisation_percent"] = used
        self.restart()
        return numbers


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far in bytes: of the device on CUDA, of the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpu_utilisation(device: torch.device) -> float | None:
    """Return the GPU's utilisation in percent: how much of the last moments it ran a kernel, by NVIDIA's library NVML.

    None without a GPU, or without the library: darts_hpc[gpu].
    """
    if device.type != "cuda":
        return None
    library = _open_library()
    if library is None:
        return None
    try:
        return float(library.nvmlDeviceGetUtilizationRates(_handle(library, device)).gpu)
    except library.NVMLError as error:  # such as on a MIG slice
        _log_once(f"no GPU utilisation in the metrics: {error}")
        return None


@functools.cache
def _open_library() -> Any:
    try:
        import pynvml
    except ImportError:
        _log_once("no GPU utilisation in the metrics without nvidia-ml-py: pip install 'darts_hpc[gpu]'")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log_once(f"no GPU utilisation in the metrics: {error}")
        return None
    return pynvml


@functools.cache
def _handle(library: Any, device: torch.device) -> Any:
    # By its UUID: the library counts all GPUs of the machine, torch those of CUDA_VISIBLE_DEVICES
    return library.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


@functools.cache
def _log_once(text: str) -> None:
    log.info(text)
