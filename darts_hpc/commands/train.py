"""Train a found cell from scratch (the original train.py): python -m darts_hpc.train --auxiliary --cutout."""

from pathlib import Path

from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train import TrainConfig
from darts_hpc.data.loading.policies import policy_of
from darts_hpc.data.loading.sources import eval_batch_size, eval_source, training_source
from darts_hpc.data.loading.split import held_out_split
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.load import dataset_facts, load_dataset
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import fitting
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.training.schedule import cosine_learning_rate
from darts_hpc.training.train_network import TrainingData, train_network


def main(cfg: TrainConfig, data: DataSet | None = None) -> Path:
    """Train the derived network on small images, --dataset's or those of `data`, and return its run folder."""
    return train_network(
        "train",
        cfg,
        to_yaml(cfg, "python -m darts_hpc.train"),
        lambda world: open_data(cfg, world, data),
        lambda epoch: cosine_learning_rate(epoch, cfg.run.epochs, cfg.optim.learning_rate),
        lambda world: fitting(plan_training(cfg, facts_of(cfg, data), world), cfg.memory.memory_check, world),
    )


def facts_of(cfg: TrainConfig, data: DataSet | None = None) -> DatasetFacts:
    """Return how large the images and their data set are, --dataset's or those of `data`."""
    if data is not None:
        return data.facts()
    return dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size)


def open_data(cfg: TrainConfig, world: World, data: DataSet | None = None) -> TrainingData:
    """Return the training images, and those it is evaluated on: test images, or the training images held out."""
    seed = cfg.run.seed
    if data is None:
        data = load_dataset(cfg.data.dataset, cfg.data.data, image_size=cfg.data.image_size, world=world)
    elif not len(data.test) and not cfg.data.held_out:
        raise ValueError("there are no test images; give test_data=(images, labels), or held_out=0.2 to hold some out")
    data = data.to(world.device)
    train_ids = valid_ids = None
    if cfg.data.held_out:
        train_ids, valid_ids = held_out_split(data.train.labels, cfg.data.held_out, seed)
    part = data.test if valid_ids is None else data.train
    return TrainingData(
        train=training_source(data, cfg.data, seed, world, train_ids, policy_of(cfg.data.augment, data.name)),
        eval=eval_source(data, part, eval_batch_size(cfg.data.batch_size, world.device), seed, world, valid_ids),
        eval_name="test" if valid_ids is None else "valid",
        stem="cifar",
        image_size=data.image_size,
        classes=tuple(data.classes),
        digest=data.fingerprint(),
        preprocessing={"dataset": data.name, "mean": data.mean, "std": data.std},
    )
