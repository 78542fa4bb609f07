"""A finished campaign that compares methods: its folder, with runs whose numbers a test knows."""

import random
from pathlib import Path

from sample_runs import write_search_run, write_train_run

from darts_hpc.campaigns.anytime import write_cell
from darts_hpc.campaigns.folder import write_folder
from darts_hpc.campaigns.plan import make_plan
from darts_hpc.commands.campaign import presets
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.space.genotypes import Genotype, load_genotype
from darts_hpc.space.random_cells import random_genotype
from darts_hpc.space.spaces import SPACES

FLAGS = ("--config", "configs/campaign/tiny.yaml", "--search_seeds", "0", "1", "2", "--random_cells", "4")
FLAGS += ("--anytime_shares", "0.5", "--baselines", "DARTS_V2", "--baseline_seeds", "0", "1")
SPACES_SEARCHED = ("--spaces", "s2", "s4")
VARIANTS = ("first_order", "beta: --alpha_regulariser beta", "unrolled in s2: --unrolled", "rs in s4: --perturb random")
LEVELS = {"first_order": 80.0, "beta": 91.5, "unrolled": 86.0, "rs": 89.0, "random": 88.0, "DARTS_V2": 92.0}
"""Method -> accuracy that its cells are about."""


def random_cell(seed: int, space: str) -> Genotype:
    """A random cell."""
    return random_genotype(seed, SPACES[space])


def collapsed_cell(seed: int, space: str) -> Genotype:
    """A random cell whose normal edges are skip connections, or noise, but for one."""
    cell, free = random_genotype(seed, SPACES[space]), "noise" if space == "s4" else "skip_connect"
    normal = tuple((free if place else "sep_conv_3x3", state) for place, (_, state) in enumerate(cell.normal))
    return Genotype(normal, cell.normal_concat, cell.reduce, cell.reduce_concat)


def compared(*variants: str) -> CampaignConfig:
    """The campaign of these variants."""
    return parse_config(CampaignConfig, [*FLAGS, *SPACES_SEARCHED, "--variants", *variants])


def write_campaign(folder: Path, cfg: CampaignConfig) -> None:
    """Write the folder of a campaign whose jobs are all done, as far as no ranking is waited for."""
    write_folder(cfg, folder, presets(cfg), "python -m darts_hpc.campaign --config compare.yaml")
    (folder / "jobs").mkdir(exist_ok=True)
    for job in make_plan(cfg, folder, {}):
        draw, run = random.Random(job.name), job.folder(folder)
        space = job.cell.split("-")[0] if cfg.search.spaces else "darts"
        method = next(name for name in LEVELS if name in job.cell)
        if job.stage == "search":
            draw_cell = collapsed_cell if method == "first_order" else random_cell
            cells = [draw_cell(100 * job.seed + epoch, space) for epoch in range(6)]
            write_search_run(run, job.seed, 6, True, SPACES[space], cells, {"first_order": 0.9}.get(method, 0.2))
        elif not job.is_open:
            if job.stage == "anytime":
                write_cell(folder, job)
            arch, is_final = job.flags[1], job.stage == "final"
            accuracy = LEVELS[method] + draw.gauss(0, 0.6) - (0 if is_final else 8 + 6 * (1 - job.share))
            cell, split = load_genotype(arch), "test" if is_final else "valid"
            write_train_run(run, job.seed, 15, True, accuracy, arch, cell, split)
