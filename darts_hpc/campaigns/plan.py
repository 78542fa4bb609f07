"""The plan: configuration -> jobs with stages and dependencies. It starts nothing and reads nothing."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darts_hpc.config.campaign import CampaignConfig

STAGES = ("search", "select", "final", "imagenet")
PRESETS = {"train_search": "search.yaml", "train": "train.yaml", "train_imagenet": "imagenet.yaml"}
"""The presets in the campaign's folder, by the entry that reads them."""
RANDOM = "random"
"""The family of random cells; the others are orders of search."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of an entry point.

    name: of its run folder, its log and its record. cell: what it finds or trains, such as first_order-seed2, random-0,
    DARTS_V1, or "best of first_order" while that is open. after: names of the jobs whose results it needs.
    """

    name: str
    stage: str
    cell: str
    seed: int
    entry: str
    flags: tuple[str, ...]
    after: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the ranking must first say which cell it trains."""
        return self.cell.startswith("best of ")

    def folder(self, campaign: Path) -> Path:
        """Return its run folder."""
        return campaign / "runs" / self.name

    def command(self, campaign: Path) -> list[str]:
        """Return the arguments after `python -m`."""
        return [
            f"darts_hpc.{self.entry}", "--config", str(campaign / PRESETS[self.entry]), *self.flags,
            "--seed", str(self.seed), "--save", f"{self.folder(campaign)}/", "--resume", "auto",
        ]  # fmt: skip

    def repeat(self, campaign: Path) -> str:
        """Return the command as a person would type it, elsewhere or again."""
        return shlex.join(["python", "-m", *self.command(campaign)])


def families(cfg: CampaignConfig) -> dict[str, list[str]]:
    """Return the cells that compete with each other, by family: each order of search, then the random cells."""
    orders = ["first_order", "unrolled"] if cfg.search.order == "both" else [cfg.search.order]
    found = {order: [f"{order}-seed{seed}" for seed in cfg.search.search_seeds] for order in orders}
    seeds = range(cfg.search.random_seed, cfg.search.random_seed + cfg.search.random_cells)
    return found | ({RANDOM: [f"{RANDOM}-{seed}" for seed in seeds]} if seeds else {})


def make_plan(cfg: CampaignConfig, folder: Path, best: Mapping[str, str]) -> list[Job]:
    """Return every job, a dependency before what needs it.

    best: family -> its best cell, for the families whose ranking is complete. The full trainings of other families
    stand for a cell that is still open.
    """
    jobs = [_search(cfg, order, seed) for order in families(cfg) if order != RANDOM for seed in cfg.search.search_seeds]
    for cells in families(cfg).values():
        jobs += [_select(cfg, folder, cell) for cell in cells]
    jobs += _finals(cfg, folder, best)
    if cfg.train.imagenet_config:
        for family in families(cfg):
            if family != RANDOM:
                jobs += [_imagenet(cfg, folder, family, best, seed) for seed in cfg.train.imagenet_seeds]
    return jobs


def arch_of(cell: str, folder: Path) -> str:
    """Return the --arch of a cell: a search's run folder, the file of a random cell, or a published name."""
    if cell.startswith(f"{RANDOM}-"):
        return str(folder / "cells" / f"{cell}.json")
    if cell.startswith(("first_order-", "unrolled-")):
        return str(folder / "runs" / f"search-{cell}")
    return cell


def _search(cfg: CampaignConfig, order: str, seed: int) -> Job:
    flags = ("--unrolled",) if order == "unrolled" else ("--no_unrolled",)
    flags += ("--device", cfg.size.device)
    name = f"{order}-seed{seed}"
    return Job(name=f"search-{name}", stage="search", cell=name, seed=seed, entry="train_search", flags=flags)


def _select(cfg: CampaignConfig, folder: Path, cell: str) -> Job:
    return Job(
        name=f"select-{cell}",
        stage="select",
        cell=cell,
        seed=cfg.train.select_seed,
        entry="train",
        flags=(
            *("--arch", arch_of(cell, folder), "--held_out", str(cfg.train.held_out)),
            *("--epochs", str(cfg.train.select_epochs), "--device", cfg.size.device),
        ),
        after=_search_of(cell),
    )


def _finals(cfg: CampaignConfig, folder: Path, best: Mapping[str, str]) -> list[Job]:
    wanted: dict[tuple[str, int], tuple[str, ...]] = {}
    for family, cells in families(cfg).items():
        after = tuple(f"select-{cell}" for cell in cells)
        for seed in cfg.train.final_seeds:
            cell = best.get(family, f"best of {family}")
            wanted[cell, seed] = _search_of(cell) if family in best else after
    if cfg.train.train_all:
        for cells in families(cfg).values():
            for cell in cells:
                wanted.setdefault((cell, cfg.train.final_seeds[0]), _search_of(cell))
    for cell in cfg.train.baselines:
        wanted |= {(cell, seed): () for seed in cfg.train.baseline_seeds}
    flags = ("--held_out", "0", "--device", cfg.size.device)
    return [
        Job(
            name=f"final-{cell.replace(' ', '_')}-seed{seed}",
            stage="final",
            cell=cell,
            seed=seed,
            entry="train",
            flags=("--arch", arch_of(cell, folder), *flags),
            after=after,
        )
        for (cell, seed), after in wanted.items()
    ]


def _imagenet(cfg: CampaignConfig, folder: Path, family: str, best: Mapping[str, str], seed: int) -> Job:
    cell = best.get(family, f"best of {family}")
    return Job(
        name=f"imagenet-{cell.replace(' ', '_')}-seed{seed}",
        stage="imagenet",
        cell=cell,
        seed=seed,
        entry="train_imagenet",
        flags=("--arch", arch_of(cell, folder), "--device", cfg.size.device),
        after=_search_of(cell) if family in best else tuple(f"select-{other}" for other in families(cfg)[family]),
    )


def _search_of(cell: str) -> tuple[str, ...]:
    return (f"search-{cell}",) if cell.startswith(("first_order-", "unrolled-")) else ()
