"""Pack ImageNet's images into tar shards: python -m darts_hpc.pack SRC DEST. After an interruption, the same again."""

import logging

import torch

from darts_hpc.config.pack import PackConfig
from darts_hpc.data.imagenet.list.open_manifest import FIX_AND_REPEAT, open_manifest
from darts_hpc.data.imagenet.list.quarantine import Quarantine, journal_of
from darts_hpc.data.imagenet.prepare.packing import check_pack_folder, pack
from darts_hpc.distributed.world import World

MEGABYTE = 1_000_000


def main(cfg: PackConfig) -> None:
    """Write the shards, and say what was written."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_pack_folder(cfg.destination)
    manifest, path = open_manifest(cfg.source, None, World(torch.device("cpu")), way_out=FIX_AND_REPEAT)
    Quarantine(journal_of(path), cfg.max_bad_images).begin(manifest.damaged, ())
    num_shards = pack(
        cfg.source, manifest, cfg.destination,
        shard_bytes=cfg.shard_mb * MEGABYTE, seed=cfg.seed, num_threads=cfg.num_threads,
    )  # fmt: skip
    print(
        f"{len(manifest.train)} training and {len(manifest.val)} validation images in {num_shards} shards, each image "
        f"read back and verified; train with --data {cfg.destination}"
    )
