"""Show what a step of a search or a training takes, and which settings fit, without running it."""

import sys
from itertools import count

from darts_hpc.commands.train import facts_of
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.imagenet.load import expected_facts
from darts_hpc.data.sets.load import dataset_facts
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import table
from darts_hpc.memory.plan import MemoryPlan, plan_search
from darts_hpc.memory.plan_training import plan_training


def main(cfg: SearchConfig | TrainConfig | ImageNetConfig) -> bool:
    """Print a table: of a search every gradient, of a training both forms of the network; all with recomputed cells.

    Returns whether the run would start.
    """
    with World.open(cfg.run.device, cfg.run.gpu) as world:
        plan = plan_of(cfg, world)
        starts = plan.fits_at_all() or cfg.memory.memory_check != "auto"
        if not world.is_main:
            return starts
        print(plan.choose("auto")[1], flush=True)
        numbers, total = count(1), 2 * len(plan.variants)

        def report(form: object) -> None:
            print(f"tracing {next(numbers)} of {total}: {form.title}", file=sys.stderr, flush=True)  # pyright: ignore

        print(table(plan, plan.variants, report))
        return starts


def plan_of(cfg: SearchConfig | TrainConfig | ImageNetConfig, world: World) -> MemoryPlan:
    """Return the plan of a run. Every rank calls it."""
    if isinstance(cfg, SearchConfig):
        if cfg.data.dataset == "imagenet":
            return plan_search(cfg, expected_facts(cfg.imagenet()), world)
        return plan_search(cfg, dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size), world)
    facts = facts_of(cfg) if isinstance(cfg, TrainConfig) else expected_facts(cfg.data)
    return plan_training(cfg, facts, world)
