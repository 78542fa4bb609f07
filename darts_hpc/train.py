"""Train a found cell from scratch (the original train.py): python -m darts_hpc.train --auxiliary --cutout."""

import logging
from pathlib import Path
from typing import Any

import torch

from darts_hpc.config.cli import run_entry
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train import TrainConfig, TrainDataConfig
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.loading.split import held_out_split
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.state_dicts import export_original
from darts_hpc.run.fingerprint import fingerprint
from darts_hpc.run.recorder import prefixed
from darts_hpc.run.run import Run
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.loops import evaluate, train_epoch
from darts_hpc.training.optim import build_sgd, set_learning_rate
from darts_hpc.training.schedule import cosine_learning_rate
from darts_hpc.training.seeding import seed_everything

log = logging.getLogger("darts_hpc")


def train_sources(data: DataSet, cfg: TrainDataConfig, seed: int, world: World) -> tuple[BatchSource, BatchSource]:
    """Return the training batches, augmented, and those that judge: test images, or the training images held out."""
    augmentation = Augmentation(data.crop_padding, data.flip, cfg.cutout_length if cfg.cutout else 0)
    common: dict[str, Any] = {
        "batch_size": cfg.batch_size,
        "seed": seed,
        "device": world.device,
        "rank": world.rank,
        "world_size": world.size,
    }
    training: dict[str, Any] = {"augmentation": augmentation, "shuffle": True, "drop_last": True}
    if not cfg.held_out:
        return BatchSource(data, data.train, **training, **common), BatchSource(data, data.test, **common)
    train_ids, valid_ids = held_out_split(data.train.labels, cfg.held_out, seed)
    return (
        BatchSource(data, data.train, sample_ids=train_ids, **training, **common),
        BatchSource(data, data.train, sample_ids=valid_ids, **common),
    )


def main(cfg: TrainConfig) -> Path:
    """Train the derived network, and return its run folder. The last epoch's accuracy is the result."""
    judged = "valid" if cfg.data.held_out else "test"
    with World.open(cfg.run.device, cfg.run.gpu) as world:
        genotype = load_genotype(cfg.model.arch)
        data = load_dataset(cfg.data.dataset, cfg.data.data, image_size=cfg.data.image_size, world=world)
        data = data.to(world.device)
        train_source, eval_source = train_sources(data, cfg.data, cfg.run.seed, world)
        seed_everything(cfg.run.seed, cfg.run.deterministic)
        network = DerivedNetwork(
            "cifar", cfg.model.init_channels, data.num_classes, cfg.model.layers, cfg.model.auxiliary, genotype
        )
        costs = measure_costs(network, data.image_size)
        network = network.to(world.device).to(memory_format=torch.channels_last)
        world.broadcast_([weight.detach() for weight in network.parameters()])
        optimizer = build_sgd(network.parameters(), cfg.optim)
        state = {"network": network, "optimizer": optimizer}
        config_yaml = to_yaml(cfg, "python -m darts_hpc.train")
        agreed = fingerprint(cfg, data.fingerprint(), arch=genotype.to_dict())
        with Run.open("train", cfg.run, config_yaml, agreed, world) as run:
            if run.is_fresh:
                run.record_genotype("before_first_epoch", genotype)
            log.info("%s", costs)
            for epoch in run.epochs(state):
                learning_rate = cosine_learning_rate(epoch, cfg.run.epochs, cfg.optim.learning_rate)
                set_learning_rate(optimizer, learning_rate)
                network.set_drop_path(cfg.model.drop_path_prob * epoch / cfg.run.epochs)
                train = train_epoch(
                    network, optimizer, train_source, cfg.model.auxiliary_weight, cfg.optim.grad_clip, run
                )
                judgement = evaluate(network, eval_source, run)
                numbers = {
                    **prefixed("train", train.compute(world)),
                    **prefixed(judged, judgement.compute(world)),
                    "learning_rate": learning_rate,
                }
                run.finish_epoch(numbers)
            preprocessing = {
                **{"dataset": data.name, "image_size": data.image_size, "classes": list(data.classes)},
                **{
                    "channels": "RGB, (B, 3, H, W), scaled to 0..1, then normalised",
                    "mean": data.mean,
                    "std": data.std,
                },
            }
            facts = {"genotype": genotype.to_dict(), "genotype_text": str(genotype), **costs._asdict()}
            facts |= {"preprocessing": preprocessing}
            run.finish(facts, {"weights.pt": export_original(network)})
    return run.folder


if __name__ == "__main__":
    run_entry(main, TrainConfig)
