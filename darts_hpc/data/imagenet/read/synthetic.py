"""Images made on the device: a loader that never waits, for measuring models and for trying things out."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.loading.order import DROP_PATH, IMAGE, SampleOrder

PATTERN, NOISE = 7, 16
"""Side of a class's pattern in patches, and number of noise images."""


class SyntheticLoader:
    """Images of a coarse pattern, which is their class's, under noise that is drawn from (seed, epoch, sample id).

    A network can learn them. Image i is of class i mod num_classes.
    """

    def __init__(self, order: SampleOrder, *, num_classes: int, image_size: int, seed: int, device: torch.device):
        self.order, self.seed, self.device = order, seed, device
        self.num_samples, self.steps_per_epoch = order.num_samples, order.steps_per_epoch
        self.num_classes, self.image_size = num_classes, image_size
        generator = torch.Generator().manual_seed(num_classes)  # training and validation share the patterns
        self._patterns = torch.randn(num_classes, 3, PATTERN, PATTERN, generator=generator).to(device)
        self._noise = torch.randn(NOISE, 3, image_size, image_size, generator=generator).to(device)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on."""
        for step in range(first_step, self.steps_per_epoch):
            yield self._batch(epoch, self.order.ids(epoch, step).to(self.device))

    def _batch(self, epoch: int, ids: Tensor) -> Batch:
        labels = ids % self.num_classes
        image_keys = counter_rng.random_bits(self.seed, epoch, ids, IMAGE)
        share = counter_rng.uniform(image_keys, 0)[:, None, None, None].float()
        first, second = (self._noise[counter_rng.randint(NOISE, image_keys, stream)] for stream in (1, 2))
        pattern = F.interpolate(self._patterns[labels], self.image_size)
        images = pattern + share.sqrt() * first + (1 - share).sqrt() * second
        keys = counter_rng.random_bits(self.seed, epoch, ids, DROP_PATH)
        return Batch(images.contiguous(memory_format=torch.channels_last), labels, keys)
