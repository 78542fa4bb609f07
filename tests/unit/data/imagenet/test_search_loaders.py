"""The batches of a search on ImageNet: shares of each class, the same for any number of processes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from small_imagenet import joined, signature

from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.data.imagenet.list.manifest import Manifest, save_manifest
from darts_hpc.data.imagenet.load import open_search
from darts_hpc.distributed.world import World


def world(rank: int = 0, size: int = 1) -> World:
    """A rank whose process group is not needed: what is read is checked on rank 0 alone."""
    alone = World(torch.device("cpu"), rank, size)
    alone.__dict__.update(gather_objects=lambda value: [value], broadcast_object=lambda value: value)
    return alone


MADE_UP = ImageNetDataConfig(
    loader="synthetic", batch_size=8, image_size=32, synthetic_images=90, synthetic_classes=3
)  # fmt: skip


@pytest.mark.parametrize("size", [2, 4])
def test_every_number_of_processes_sees_the_same(size: int):
    alone = open_search(MADE_UP, 0.6, 0.3, 5, world())
    share = ImageNetDataConfig(**{**vars(MADE_UP), "batch_size": 8 // size})
    ranks = [open_search(share, 0.6, 0.3, 5, world(rank, size)) for rank in range(size)]
    assert (alone.weights.steps_per_epoch, alone.alphas.steps_per_epoch, alone.valid.num_samples) == (6, 3, 27)
    for part, epoch in itertools.product(("weights", "alphas", "valid"), range(2)):
        together = joined([getattr(rank, part) for rank in ranks], epoch, 1)
        assert signature(together) == signature(getattr(alone, part).batches(epoch, 1))


def test_weights_and_alphas_take_their_shares_and_validation_shows_the_alphas_images_unchanged(
    tree: Path, manifest: Manifest, tmp_path: Path
):
    pytest.importorskip("nvidia.dali")
    save_manifest(manifest, tmp_path / "manifest.npz")
    cfg = ImageNetDataConfig(
        data=tree, manifest=tmp_path / "manifest.npz", batch_size=3, image_size=32, resize=36, num_threads=1
    )  # fmt: skip
    data = open_search(cfg, 0.5, 0.3, 5, World(torch.device("cpu")))
    loaders: Any = data.weights, data.alphas, data.valid
    weight_ids, alpha_ids, valid_ids = (loader.samples.order.sample_ids for loader in loaders)
    labels = torch.from_numpy(manifest.train.labels)
    assert labels[weight_ids].bincount().tolist() == [4, 4, 4] and labels[alpha_ids].bincount().tolist() == [3, 3, 3]
    assert not set(weight_ids.tolist()) & set(alpha_ids.tolist()) and torch.equal(alpha_ids, valid_ids)
    valid, again = (torch.cat([batch.images for batch in data.valid.batches(epoch)]) for epoch in range(2))
    assert torch.equal(valid, again) and valid.shape == (9, 3, 32, 32)
    assert data.quarantine is not None and data.classes == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("shares", "batch_size", "said"),
    [
        ((0.6, 0.3), 30, r"--alpha_share 0.3 .* is 27, fewer than the 30 of a step \(--batch_size 30 on 1 processes\)"),
        (
            (0.2, 0.3),
            20,
            "--weight_share 0.2 .* is 18, fewer than the 20 of a step .*; raise it, or lower --batch_size",
        ),
        ((0.6, 0.01), 1, "--alpha_share 0.01 takes none of the 30 training images of class '0'"),
    ],
)
def test_a_share_too_small_for_a_batch_or_for_a_class_is_refused_in_one_line(shares, batch_size, said):
    with pytest.raises(ValueError, match=said):
        open_search(ImageNetDataConfig(**{**vars(MADE_UP), "batch_size": batch_size}), shares[0], shares[1], 5, world())
