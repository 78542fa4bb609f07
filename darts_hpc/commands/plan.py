"""Show what a search step takes, and which settings fit, without a search."""

import sys
from itertools import count

from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.load import dataset_facts
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import table
from darts_hpc.memory.plan import METHODS, describe, plan_search
from darts_hpc.memory.predict import Step


def main(cfg: SearchConfig) -> None:
    """Print the table of train_search's flags: every gradient, with and without recomputed cells."""
    with World.open(cfg.run.device, cfg.run.gpu) as world:
        plan = plan_search(cfg, dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size), world)
        if not world.is_main:
            return
        print(plan.choose("auto")[1], flush=True)
        numbers, total = count(1), 2 * len(METHODS)

        def report(form: Step) -> None:
            print(f"tracing {next(numbers)} of {total}: {describe(form)}", file=sys.stderr, flush=True)

        print(table(plan, METHODS, report))
