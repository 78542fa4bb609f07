"""Copy ImageNet's images to a disk of this node, verified, once: python -m darts_hpc.stage SRC DEST."""

import logging

import torch

from darts_hpc.config.stage import StageConfig
from darts_hpc.data.imagenet.list.open_manifest import FIX_AND_REPEAT, open_manifest
from darts_hpc.data.imagenet.prepare.staging import stage
from darts_hpc.distributed.world import World


def main(cfg: StageConfig) -> None:
    """Stage, and say so."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest, _ = open_manifest(cfg.source, None, World(torch.device("cpu")), way_out=FIX_AND_REPEAT)
    copied = stage(cfg.source, manifest, cfg.destination, cfg.num_threads)
    how = "copied and verified" if copied else "there already"
    print(f"{len(manifest.train) + len(manifest.val)} images {how}; train with --data {cfg.destination}")
