"""The two ways in which a loop takes the images of a data set: shuffled and augmented, or in order and unchanged."""

import torch
from torch import Tensor

from darts_hpc.config.shared import DataConfig
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.loading.policies import Policy
from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.distributed.world import World


def training_source(
    data: DataSet,
    cfg: DataConfig,
    seed: int,
    world: World,
    sample_ids: Tensor | None = None,
    policy: Policy | None = None,
) -> BatchSource:
    """Return this rank's shuffled, augmented batches of the training images, or of some; all batches are whole."""
    return BatchSource(
        data, data.train, batch_size=cfg.batch_size, seed=seed, device=world.device, sample_ids=sample_ids,
        augmentation=Augmentation(data.crop_padding, data.flip, cfg.cutout_length if cfg.cutout else 0, policy),
        shuffle=True, drop_last=True, rank=world.rank, world_size=world.size,
    )  # fmt: skip


def eval_source(
    data: DataSet,
    part: ImageSet,
    batch_size: int,
    seed: int,
    world: World,
    sample_ids: Tensor | None = None,
    *,
    shuffle: bool = False,
) -> BatchSource:
    """Return this rank's batches of a part of the data, or of some of it: each image once, unchanged.

    In the order of the data, or shuffled by the seed, so that the first batches are a random sample.
    """
    return BatchSource(
        data, part, batch_size=batch_size, seed=seed, device=world.device, sample_ids=sample_ids, shuffle=shuffle,
        rank=world.rank, world_size=world.size,
    )  # fmt: skip


def eval_batch_size(batch_size: int, device: torch.device) -> int:
    """Return the images per step of an evaluation: on a GPU more than of a training, whose tensors it does not keep.

    A CPU gains nothing by it, and sums of another length end in other last bits.
    """
    return batch_size if device.type == "cpu" else 5 * batch_size
