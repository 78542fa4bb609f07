"""Plan the memory of a training step."""

from dataclasses import replace

import torch

from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.loading.sources import eval_batch_size
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan import MemoryPlan, memory_to_use
from darts_hpc.memory.predict_training import TrainingStep
from darts_hpc.memory.trace import CUDA_BLOCK
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_form
from darts_hpc.models.derived_fast.network import why_not_fast
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.optim import choose_optimizer_impl
from darts_hpc.training.precision import choose_precision
from darts_hpc.training.train_network import step_config


def plan_training(cfg: TrainConfig | ImageNetConfig, facts: DatasetFacts, world: World) -> MemoryPlan[TrainingStep]:
    """Return the plan of a training of --arch on images of these sizes. Every rank calls it.

    Raises ValueError where batches can't make the global batch.
    """
    model, genotype = cfg.model, load_genotype(cfg.model.arch)
    step_config(cfg, world)
    stem = "imagenet" if isinstance(cfg, ImageNetConfig) else "cifar"
    with torch.device("meta"):
        plain = DerivedNetwork(stem, model.init_channels, facts.num_classes, model.layers, model.auxiliary, genotype)
    form, fallback = choose_form(model.network, plain, world.device)
    together = cfg.optim.global_batch_size
    optimizer_impl = choose_optimizer_impl(cfg.optim.optimizer_impl, world.device)
    if isinstance(cfg, ImageNetConfig):
        valid_batch_size, valid_batches, changed = cfg.data.valid_batch_size, 1, 0
    else:
        valid_batch_size, valid_batches = None, eval_batch_size(1, world.device)
        changed = facts.num_train if cfg.data.augment != "none" else 0  # by the policy, beside what it changes
    step = TrainingStep(
        network=form,
        checkpoint_cells=model.checkpoint_cells,
        genotype=genotype,
        stem=stem,
        layers=model.layers,
        num_classes=facts.num_classes,
        image_size=facts.image_size,
        num_images=facts.num_train + facts.num_test + changed if facts.in_memory else 0,
        auxiliary=model.auxiliary,
        drop_path=model.drop_path_prob > 0,
        label_smooth=cfg.optim.label_smooth > 0,
        ema=cfg.optim.ema > 0,
        images_per_update=None if together is None else max(1, together // world.size),
        valid_batch_size=valid_batch_size,
        valid_batches=valid_batches,
        optimizer_impl=optimizer_impl,
        data_parallel=world.size > 1,
        sync_bn=cfg.runtime.sync_bn and world.size > 1,
        precision=choose_precision(cfg.runtime.precision, world.device),
        device=world.device.type,
        optim=cfg.optim,
        cuda_graph=cfg.runtime.cuda_graph and world.device.type == "cuda" and optimizer_impl == "fused",
    )
    forms = ["plain"] if why_not_fast(plain) else ["plain", "fast"]
    return MemoryPlan(
        step,
        batch_size=cfg.data.batch_size,
        init_channels=model.init_channels,
        free=memory_to_use(cfg.memory, world),
        block=CUDA_BLOCK if world.device.type == "cuda" else 1,
        fallback=fallback,
        variants=[replace(step, network=network) for network in forms],
    )
