"""Train a found cell on ImageNet: torchrun --nproc_per_node 8 -m darts_hpc.train_imagenet --auxiliary."""

import logging
from pathlib import Path

import torch

from darts_hpc.config.cli import run_entry
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.imagenet.load import open_imagenet
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_, synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.state_dicts import export_original
from darts_hpc.run.fingerprint import fingerprint
from darts_hpc.run.recorder import prefixed
from darts_hpc.run.run import Run, check_run_folder
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.compile import compile_modules
from darts_hpc.training.data_parallel import data_parallel
from darts_hpc.training.imagenet_loop import StepConfig, imagenet_epoch
from darts_hpc.training.loops import evaluate
from darts_hpc.training.optim import build_sgd_of, choose_optimizer_impl, set_learning_rate
from darts_hpc.training.precision import Precision, choose_precision
from darts_hpc.training.schedule import imagenet_learning_rate
from darts_hpc.training.seeding import seed_everything

log = logging.getLogger("darts_hpc")


def step_config(cfg: ImageNetConfig, world: World) -> StepConfig:
    """Return how a step uses its batches. Raises ValueError when they can't make the global batch."""
    together = cfg.data.batch_size * world.size
    wanted = cfg.optim.global_batch_size or together
    if wanted % together:
        share, rest = divmod(wanted, world.size)
        fitting = max((size for size in range(1, cfg.data.batch_size + 1) if share % size == 0), default=1)
        way_out = f"a number of processes that divides {wanted}" if rest else f"--batch_size {fitting}"
        raise ValueError(
            f"--global_batch_size {wanted} is no multiple of --batch_size {cfg.data.batch_size} times {world.size} "
            f"processes; take {way_out}"
        )
    return StepConfig(
        batch_size=cfg.data.batch_size,
        accumulate=wanted // together,
        auxiliary_weight=cfg.model.auxiliary_weight,
        label_smooth=cfg.optim.label_smooth,
        grad_clip=cfg.optim.grad_clip,
        memory_format=torch.channels_last if cfg.runtime.channels_last else torch.contiguous_format,
    )


def blank_batch(cfg: ImageNetConfig, world: World) -> Batch:
    """Return a batch of the training's shape."""
    images = torch.zeros(cfg.data.batch_size, 3, cfg.data.image_size, cfg.data.image_size, device=world.device)
    layout = torch.channels_last if cfg.runtime.channels_last else torch.contiguous_format
    labels = torch.zeros(cfg.data.batch_size, dtype=torch.int64, device=world.device)
    return Batch(images.to(memory_format=layout), labels, labels)


def main(cfg: ImageNetConfig) -> Path:
    """Train the derived network, and return its run folder. The last epoch's validation accuracy is the result."""
    genotype = load_genotype(cfg.model.arch)
    with World.open(cfg.run.device, cfg.run.gpu) as world:
        recipe = step_config(cfg, world)
        precision = Precision(choose_precision(cfg.runtime.precision, world.device), world.device)
        optimizer_impl = choose_optimizer_impl(cfg.optim.optimizer_impl, world.device)
        check_run_folder(cfg.run, world)
        data = open_imagenet(cfg.data, cfg.run.seed, world)
        if data.train.steps_per_epoch < recipe.accumulate:
            raise ValueError(
                f"--global_batch_size {cfg.optim.global_batch_size} is more than the {data.train.num_samples} images "
                "of an epoch; lower it"
            )
        seed_everything(cfg.run.seed, cfg.run.deterministic)
        network = DerivedNetwork(
            "imagenet", cfg.model.init_channels, len(data.classes), cfg.model.layers, cfg.model.auxiliary, genotype
        )
        costs = measure_costs(network, cfg.data.image_size)
        network.to(world.device).to(memory_format=recipe.memory_format)
        if cfg.runtime.sync_bn:
            synchronise_batch_norm(network, world, once_differentiable=True)
        optimizer = build_sgd_of(optimizer_impl, network.parameters(), cfg.optim)
        if cfg.runtime.compile:
            compile_modules([network], world.device)
        parallel = data_parallel(network, blank_batch(cfg, world), precision, world)
        state = {"network": network, "optimizer": optimizer, "precision": precision}
        chosen = {
            "arch": genotype.to_dict(),
            "precision": precision.name,
            "optimizer_impl": optimizer_impl,
            "global_batch_size": recipe.batch_size * recipe.accumulate * world.size,
        }
        config_yaml = to_yaml(cfg, "python -m darts_hpc.train_imagenet")
        with Run.open("train_imagenet", cfg.run, config_yaml, fingerprint(cfg, data.digest, **chosen), world) as run:
            if run.is_fresh:
                run.record_genotype("before_first_epoch", genotype)
            log.info("%s; %s", costs, describe(chosen, recipe, world))
            if cfg.runtime.parallel and world.size == 1:
                log.warning("--parallel: this is one process; torchrun --nproc_per_node N starts one for each GPU")
            for epoch in run.epochs(state):
                learning_rate = imagenet_learning_rate(epoch, cfg.run.epochs, cfg.optim)
                set_learning_rate(optimizer, learning_rate)
                network.set_drop_path(cfg.model.drop_path_prob * epoch / cfg.run.epochs)
                train = imagenet_epoch(
                    parallel, optimizer, data.train, recipe, precision, run, cfg.runtime.replica_check
                )
                average_running_statistics_(network, world)
                valid = evaluate(network, data.valid, run, precision)
                if data.quarantine is not None:
                    data.quarantine.join(world)
                numbers = {
                    **prefixed("train", train.compute(world)),
                    **prefixed("valid", valid.compute(world)),
                    "learning_rate": learning_rate,
                }
                run.finish_epoch(numbers)
            facts = {"genotype": genotype.to_dict(), "genotype_text": str(genotype), **costs._asdict()}
            run.finish(facts, {"weights.pt": export_original(network)})
    return run.folder


def describe(chosen: dict[str, object], recipe: StepConfig, world: World) -> str:
    """Return what the run does with its machines, in words."""
    return (
        f"{chosen['precision']}, {chosen['optimizer_impl']} SGD, {chosen['global_batch_size']} images a step: "
        f"{world.size} processes x {recipe.batch_size} images x {recipe.accumulate}"
    )


if __name__ == "__main__":
    run_entry(main, ImageNetConfig)
