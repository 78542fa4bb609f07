"""Search a cell (the original train_search.py): python -m darts_hpc.train_search [--unrolled]."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from darts_hpc.config.cli import run_entry
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train_search import SearchConfig, SearchDataConfig
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.loading.sources import eval_source, training_source
from darts_hpc.data.loading.split import search_split
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.load import dataset_facts, load_dataset
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_, synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import choose_form, explaining_out_of_memory
from darts_hpc.memory.plan import plan_search
from darts_hpc.models.state_dicts import export_original
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.run.fingerprint import fingerprint
from darts_hpc.run.recorder import prefixed
from darts_hpc.run.run import Run
from darts_hpc.search.architect import Architect
from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import PRIMITIVES, Genotype
from darts_hpc.training.cuda_graph import build_search_step
from darts_hpc.training.loops import evaluate, search_epoch
from darts_hpc.training.optim import MomentumByName, build_sgd, set_learning_rate
from darts_hpc.training.precision import choose_precision, memory_format
from darts_hpc.training.schedule import cosine_learning_rate
from darts_hpc.training.seeding import seed_everything, settings_restored

log = logging.getLogger("darts_hpc")


def search_sources(
    data: DataSet, cfg: SearchDataConfig, seed: int, world: World
) -> tuple[BatchSource, BatchSource, BatchSource]:
    """Return the batches that train the weights, those that train the alphas, and the latter's images unchanged."""
    weight_ids, alpha_ids = search_split(data.train.labels, cfg.train_portion, seed, cfg.split)
    return (
        training_source(data, cfg, seed, world, weight_ids),
        training_source(data, cfg, seed, world, alpha_ids),
        eval_source(data, data.train, cfg.batch_size, seed, world, alpha_ids),
    )


def alpha_numbers(supernet: RelaxedNetwork) -> dict[str, Any]:
    """Return what the alphas are like: their softmax, its mean entropy per edge in nats, and the skips of the cell."""
    numbers: dict[str, Any] = {}
    for kind, alpha in zip(("normal", "reduce"), supernet.alphas(), strict=True):
        shares = alpha.detach().double().softmax(-1)
        numbers[f"alphas/{kind}"] = shares.cpu().tolist()
        numbers[f"entropy/{kind}"] = torch.special.entr(shares).sum(-1).mean().item()
    numbers["skip_connects"] = _genotype(supernet).num_skip_connects
    return numbers


def _genotype(supernet: RelaxedNetwork) -> Genotype:
    return derive_genotype(*supernet.alphas(), supernet.primitives)


def main(cfg: SearchConfig, primitives: tuple[str, ...] = PRIMITIVES) -> Path:
    """Run a search from its first epoch, or its newest checkpoint, to the genotype; return its folder.

    `primitives` are the candidate operations of each edge, whose names the genotypes take.
    """
    with World.open(cfg.run.device, cfg.run.gpu) as world, settings_restored(), ExitStack() as stack:
        precision = choose_precision(cfg.runtime.precision, world.device)
        layout = memory_format(cfg.runtime.channels_last)
        facts = dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size)
        plan = plan_search(cfg, facts, world, primitives)
        form, why = choose_form(plan, cfg.memory.memory_check, world)
        stack.enter_context(explaining_out_of_memory(plan))
        data = load_dataset(cfg.data.dataset, cfg.data.data, image_size=cfg.data.image_size, world=world)
        data = data.to(world.device)
        weight_source, alpha_source, valid_source = search_sources(data, cfg.data, cfg.run.seed, world)
        seed_everything(cfg.run.seed, cfg.run.deterministic)
        supernet = build_supernet(
            form.supernet,
            cfg.model.init_channels,
            cfg.model.layers,
            data.num_classes,
            primitives=primitives,
            checkpoint_cells=form.checkpoint_cells,
        )
        supernet = supernet.to(world.device).to(memory_format=layout)
        if cfg.runtime.sync_bn:
            synchronise_batch_norm(supernet, world)
        world.broadcast_([weight.detach() for weight in supernet.weights()])
        optimizer = build_sgd(supernet.weights(), cfg.optim, fused=True)
        architect = Architect(
            supernet,
            learning_rate=cfg.arch_optim.arch_learning_rate,
            weight_decay=cfg.arch_optim.arch_weight_decay,
            unrolled_method=cfg.arch_optim.unrolled_method if cfg.arch_optim.unrolled else None,
            world=world,
        )
        state = {"supernet": supernet, "optimizer": MomentumByName(optimizer, supernet), "architect": architect}
        config_yaml = to_yaml(cfg, "python -m darts_hpc.train_search")
        space = {} if primitives == PRIMITIVES else {"primitives": list(primitives)}
        agreed = fingerprint(cfg, data.fingerprint(), precision=precision, **space)
        with Run.open("train_search", cfg.run, config_yaml, agreed, world, supernet.primitives) as run:
            log.info("%s", why)
            step = build_search_step(
                supernet, architect, optimizer, grad_clip=cfg.optim.grad_clip, world=world, cfg=cfg.runtime
            )
            if run.is_fresh:
                run.record_genotype("before_first_epoch", _genotype(supernet))
            for epoch in run.epochs(state):
                learning_rate = cosine_learning_rate(
                    epoch, cfg.run.epochs, cfg.optim.learning_rate, cfg.optim.learning_rate_min
                )
                set_learning_rate(optimizer, learning_rate)
                train = search_epoch(
                    supernet, step, optimizer, weight_source, alpha_source, run, cfg.runtime.replica_check
                )
                average_running_statistics_(supernet, world)
                valid = evaluate(supernet, valid_source, run, memory_format=layout)
                numbers = {
                    **prefixed("train", train.compute(world)),
                    **prefixed("valid", valid.compute(world)),
                    "learning_rate": learning_rate,
                    **alpha_numbers(supernet),
                }
                run.finish_epoch(numbers, _genotype(supernet))
            genotype = _genotype(supernet)
            log.info("genotype = %s", genotype)
            facts = {"genotype": genotype.to_dict(), "genotype_text": str(genotype)}
            alphas = {name: alpha.detach().cpu() for name, alpha in supernet.named_alphas().items()}
            run.finish(facts, {"weights.pt": export_original(supernet), "alphas.pt": alphas})
    return run.folder


if __name__ == "__main__":
    run_entry(main, SearchConfig)
