"""ImageNet through Pillow and torchvision in worker processes: the reference that DALI is measured against."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from darts_hpc.data.batches import Batch
from darts_hpc.data.imagenet.draws import Draws
from darts_hpc.data.imagenet.inspect import DamagedImage
from darts_hpc.data.imagenet.samples import Samples

Loaded = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""ids (B,) int64, pixels (B, H, W, 3) uint8, and the ids and reasons of damaged images."""


class TorchvisionLoader:
    """Batches made by `num_workers` processes. What happens to each image is drawn here, and so not up to them."""

    def __init__(self, samples: Samples, *, num_workers: int, prefetch: int):
        self.samples, self.device = samples, samples.device
        self.num_samples, self.steps_per_epoch = samples.order.num_samples, samples.order.steps_per_epoch
        self.num_workers, self.prefetch = num_workers, prefetch
        import torchvision.transforms  # noqa: F401 - takes a second, which forked workers then need not

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch from a step on; without the damaged images, which are named."""
        steps = range(first_step, self.steps_per_epoch)
        loader = DataLoader(
            _Batches(self.samples, epoch),
            sampler=steps,
            batch_size=None,  # an item is a batch
            num_workers=min(self.num_workers, len(steps)),
            prefetch_factor=self.prefetch if self.num_workers and steps else None,
            pin_memory=self.device.type == "cuda",
        )
        for ids, pixels, damaged in loader:
            for sample_id, reason in damaged:
                self.samples.leave_out(sample_id, reason)
            yield self.samples.finish(epoch, ids, pixels)


class _Batches(Dataset[Loaded]):
    """The batches of an epoch by step."""

    def __init__(self, samples: Samples, epoch: int):
        self.samples, self.epoch = samples, epoch

    def __getitem__(self, step: int) -> Loaded:
        samples = self.samples
        ids = samples.order.ids(self.epoch, step)
        draws = samples.draws(self.epoch, ids) if samples.augment else None
        whole, images, damaged = [], [], []
        for row, sample_id in enumerate(ids.tolist()):
            try:
                image = decode(samples.read(sample_id))
            except DamagedImage as damage:
                damaged.append((sample_id, str(damage)))
                continue
            whole.append(sample_id)
            images.append(augment(image, draws, row, samples.image_size) if draws else self._cut_centre(image))
        if not images:
            return torch.tensor(whole, dtype=torch.int64), samples.no_pixels(), damaged
        return torch.tensor(whole), torch.stack([torch.from_numpy(np.array(image)) for image in images]), damaged

    def _cut_centre(self, image: Any) -> Any:
        from torchvision.transforms import functional as F

        return F.center_crop(F.resize(image, [self.samples.resize]), [self.samples.image_size])


def decode(content: bytes) -> Image.Image:
    """Decode with Pillow. Raises DamagedImage."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise all kinds
        raise DamagedImage(" ".join(str(error).split())) from None


def augment(image: Any, draws: Draws, row: int, size: int) -> Image.Image:
    """Cut, resize, flip and jitter one image as a row of draws says, by torchvision's functions."""
    from torchvision.transforms import functional as F

    operations: Any = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)  # as in draws.JITTER
    top, left, height, width = draws.boxes[row].tolist()
    image = F.resized_crop(image, top, left, height, width, [size, size])
    if draws.flips[row]:
        image = F.hflip(image)
    for number in draws.orders[row].tolist():
        image = operations[number](image, float(draws.factors[row, number]))
    return image
