"""Train a found cell on ImageNet: torchrun --nproc_per_node 8 -m darts_hpc.train_imagenet --auxiliary."""

import logging
from pathlib import Path

from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.imagenet.load import expected_facts, open_imagenet
from darts_hpc.data.imagenet.read.samples import MEAN, STD
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import fitting
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.training.schedule import imagenet_learning_rate
from darts_hpc.training.train_network import TrainingData, train_network

log = logging.getLogger("darts_hpc")


def main(cfg: ImageNetConfig) -> Path:
    """Train the derived network on ImageNet, and return its run folder."""
    return train_network(
        "train_imagenet",
        cfg,
        to_yaml(cfg, "python -m darts_hpc.train_imagenet"),
        lambda world: open_data(cfg, world),
        lambda epoch: imagenet_learning_rate(epoch, cfg.run.epochs, cfg.optim),
        lambda world: fitting(plan_training(cfg, expected_facts(cfg.data), world), cfg.memory.memory_check, world),
    )


def open_data(cfg: ImageNetConfig, world: World) -> TrainingData:
    """Return the training and the validation images."""
    if cfg.runtime.parallel and world.size == 1:
        log.warning("--parallel: this is one process; torchrun --nproc_per_node N starts one for each GPU")
    data = open_imagenet(cfg.data, cfg.run.seed, world)
    return TrainingData(
        train=data.train,
        eval=data.valid,
        eval_name="valid",
        stem="imagenet",
        image_size=cfg.data.image_size,
        classes=data.classes,
        digest=data.digest,
        preprocessing={"dataset": "imagenet", "resize": cfg.data.resize, "mean": MEAN, "std": STD},
        quarantine=data.quarantine,
    )
