"""ImageNet through Pillow and torchvision in worker processes: the reference that DALI is measured against."""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from threading import Thread
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from darts_hpc.data.imagenet.read.augment_params import AugmentParams
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.shared_memory import SharedMemoryLoader, shorten_socket_paths
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.rgb import DamagedImage, decode

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
Loaded = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""ids (B,) int64, pixels (B, H, W, 3) uint8, and the ids and reasons of damaged images."""


class TorchvisionLoader:
    """Batches made by `num_workers` processes. What happens to each image is a function of its id, so not up to them.

    The processes start with the first batch, from an interpreter without threads, forking which is safe, and stay as
    long as this process lives. Signals are for it alone: schedulers send theirs to every process, and a run can't stop
    well without its workers.
    """

    def __init__(self, samples: Samples, *, num_workers: int, prefetch: int):
        self.samples, self.device = samples, samples.device
        self.num_samples, self.steps_per_epoch = samples.order.num_samples, samples.order.steps_per_epoch
        self.positions: list[tuple[int, int]] = []  # (epoch, step) of each batch to come, which the sampler reads
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "torchvision.transforms"])
        _start_forkserver()
        atexit.register(_kill_workers)
        self._loader = SharedMemoryLoader(
            _Batches(replace(samples, device=torch.device("cpu"))),
            sampler=_Positions(self.positions),
            batch_size=None,  # an item is a batch
            num_workers=num_workers,
            prefetch_factor=prefetch,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=context,
            worker_init_fn=_end_with_parent,
            persistent_workers=True,
        )

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on; without the damaged images, which are named."""
        self.positions[:] = [(epoch, step) for step in range(first_step, self.steps_per_epoch)]
        for loaded in self._loader:
            if isinstance(loaded, ValueError):
                raise loaded
            ids, pixels, damaged = loaded
            for sample_id, reason in damaged:
                self.samples.leave_out(sample_id, reason)
            yield self.samples.finish(epoch, ids, pixels)


def _start_forkserver() -> None:
    """Start the process that forks the workers with signals blocked, as then they are in the workers."""
    shorten_socket_paths()
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):  # the former unblocks some in the end
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers() -> None:
    """End the workers before multiprocessing does, which sends a SIGTERM and waits."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _end_with_parent(worker: int) -> None:
    """Watch, in a worker, for the end of the process that it works for; torch watches the one that forked it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class _Positions(Sampler[tuple[int, int]]):
    def __init__(self, positions: list[tuple[int, int]]):
        self.positions = positions

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(self.positions))

    def __len__(self) -> int:
        return len(self.positions)


class _Batches(Dataset[Loaded | ValueError]):
    """The batches by (epoch, step), or why there is none: torch would make a traceback of what a worker raises."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def __getitem__(self, position: tuple[int, int]) -> Loaded | ValueError:
        try:
            return self._load(*position)
        except ValueError as error:
            return error

    def _load(self, epoch: int, step: int) -> Loaded:
        samples = self.samples
        ids = samples.order.ids(epoch, step)
        params = samples.augment_params(epoch, ids) if samples.augment else None
        whole, images, damaged = [], [], []
        for row, sample_id in enumerate(ids.tolist()):
            try:
                image = decode(samples.read(sample_id))
            except DamagedImage as damage:
                damaged.append((sample_id, str(damage)))
                continue
            whole.append(sample_id)
            images.append(augment(image, params, row, samples.image_size) if params else self._cut_centre(image))
        if not images:
            return torch.tensor(whole, dtype=torch.int64), samples.no_pixels(), damaged
        return torch.tensor(whole), torch.stack([torch.from_numpy(np.array(image)) for image in images]), damaged

    def _cut_centre(self, image: Any) -> Any:
        from torchvision.transforms import functional as F

        return F.center_crop(F.resize(image, [self.samples.resize]), [self.samples.image_size])


def augment(image: Any, params: AugmentParams, row: int, size: int) -> Image.Image:
    """Cut, resize, flip and jitter one image as a row of params says, by torchvision's functions."""
    from torchvision.transforms import functional as F

    operations: Any = (
        F.adjust_brightness,
        F.adjust_contrast,
        F.adjust_saturation,
        F.adjust_hue,
    )  # as in augment_params.JITTER
    top, left, height, width = params.boxes[row].tolist()
    image = F.resized_crop(image, top, left, height, width, [size, size])
    if params.flips[row]:
        image = F.hflip(image)
    for number in params.orders[row].tolist():
        image = operations[number](image, float(params.factors[row, number]))
    return image
