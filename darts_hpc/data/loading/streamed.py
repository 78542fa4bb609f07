"""Batches of images that do not stay in memory: threads read those of the next steps ahead."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from darts_hpc.data.loading.batches import Batch, BatchSource

AHEAD = 2
"""Steps whose images are read ahead."""


class StreamedSource:
    """The batches that a BatchSource would yield with all images on the device.

    Args:
        source: of labels, order and augmentation; its own images are none.
        read: (sample id) -> its image (3, H, W) uint8. Threads call it.
    """

    def __init__(self, source: BatchSource, read: Callable[[int], Tensor]):
        self.source, self.device = source, source.device
        self.num_samples, self.steps_per_epoch = source.num_samples, source.steps_per_epoch
        self._read, self._readers = read, ThreadPoolExecutor(thread_name_prefix="read-images")

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on."""
        reading: deque[list[Future[Tensor]]] = deque()
        for step in range(first_step, self.steps_per_epoch + AHEAD):
            if step < self.steps_per_epoch:
                ids = self.source.order.ids(epoch, step).tolist()
                reading.append([self._readers.submit(self._read, sample_id) for sample_id in ids])
            if step - AHEAD >= first_step:
                yield self._finish(epoch, step - AHEAD, [image.result() for image in reading.popleft()])

    def _finish(self, epoch: int, step: int, images: list[Tensor]) -> Batch:
        none = self.source.images  # of the right shape
        pixels = torch.stack(images).to(self.device) if images else none
        return self.source.finish(epoch, step, pixels)
