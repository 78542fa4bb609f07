"""Tell what a search step will take, and which plans fit, without running it: python -m darts_hpc.plan [--unrolled]."""

from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.load import dataset_facts
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import table
from darts_hpc.memory.plan import METHODS, plan_search


def main(cfg: SearchConfig) -> None:
    """Print the table of train_search's flags: every gradient, with and without recomputed cells."""
    with World.open(cfg.run.device, cfg.run.gpu) as world:
        plan = plan_search(cfg, dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size), world)
        if world.is_main:
            print(plan.choose("auto")[1])
            print(table(plan, METHODS))
