"""The plan: configuration -> jobs with stages and dependencies. It starts nothing and reads nothing."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from darts_hpc.campaigns.families import Family, families, family_of
from darts_hpc.config.campaign import CampaignConfig

STAGES = ("search", "select", "anytime", "final", "imagenet")
PRESETS = {"train_search": "search.yaml", "train": "train.yaml", "train_imagenet": "imagenet.yaml"}
"""The presets in the campaign's folder, by the entry that reads them; with --spaces each family has a search-*."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of an entry point.

    name: of its run folder, its log and its record. cell: what it finds or trains, such as first_order-seed2, random-0,
    DARTS_V1, or "best of first_order" while that is open. preset: file in the campaign's folder. after: names of the
    jobs whose results it needs. share: of the search's epochs, after which the cell is its own.
    """

    name: str
    stage: str
    cell: str
    seed: int
    entry: str
    preset: str
    flags: tuple[str, ...]
    after: tuple[str, ...] = ()
    share: float = 1.0

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
            f"darts_hpc.{self.entry}", "--config", str(campaign / self.preset), *self.flags,
            "--seed", str(self.seed), "--save", f"{self.folder(campaign)}/", "--resume", "auto",
        ]  # fmt: skip

    def repeat(self, campaign: Path) -> str:
        """Return the command as a person would type it, elsewhere or again."""
        return shlex.join(["python", "-m", *self.command(campaign)])


def make_plan(cfg: CampaignConfig, folder: Path, best: Mapping[str, str]) -> list[Job]:
    """Return every job, a dependency before what needs it.

    best: family -> its best cell, for the families whose ranking is complete. The full trainings of other families
    stand for a cell that is still open.
    """
    found = families(cfg).values()
    searched = [family for family in found if not family.is_random]
    jobs = [_search(cfg, family, seed) for family in searched for seed in cfg.search.search_seeds]
    jobs += [_select(cfg, folder, family, cell) for family in found for cell in family.cells]
    jobs += [
        _anytime(cfg, folder, family, cell, share)
        for share in cfg.train.anytime_shares
        for family in searched
        for cell in family.cells
    ]
    jobs += _finals(cfg, folder, best)
    if cfg.train.imagenet_config:
        jobs += [_imagenet(cfg, folder, family, best, seed) for family in searched for seed in cfg.train.imagenet_seeds]
    return jobs


def arch_of(cell: str, family: Family | None, folder: Path) -> str:
    """Return the --arch of a cell: a search's run folder, the file of a random cell, or a published name."""
    if family is None:
        return cell
    return str(folder / "cells" / f"{cell}.json" if family.is_random else folder / "runs" / f"search-{cell}")


def _search(cfg: CampaignConfig, family: Family, seed: int) -> Job:
    cell = f"{family.name}-seed{seed}"
    own = () if family.space else family.flags  # else its preset has them
    return Job(
        name=f"search-{cell}",
        stage="search",
        cell=cell,
        seed=seed,
        entry="train_search",
        preset=family.preset,
        flags=(*own, "--device", cfg.size.device),
    )


def _select(cfg: CampaignConfig, folder: Path, family: Family, cell: str) -> Job:
    return _short(cfg, f"select-{cell}", "select", cell, arch_of(cell, family, folder), _search_of(cell, family))


def _anytime(cfg: CampaignConfig, folder: Path, family: Family, cell: str, share: float) -> Job:
    own = f"{cell}-at{share:g}"
    arch = str(folder / "cells" / f"{own}.json")
    return replace(_short(cfg, f"anytime-{own}", "anytime", own, arch, _search_of(cell, family)), share=share)


def _short(cfg: CampaignConfig, name: str, stage: str, cell: str, arch: str, after: tuple[str, ...]) -> Job:
    return Job(
        name=name,
        stage=stage,
        cell=cell,
        seed=cfg.train.select_seed,
        entry="train",
        preset=PRESETS["train"],
        flags=(
            *("--arch", arch, "--held_out", str(cfg.train.held_out)),
            *("--epochs", str(cfg.train.select_epochs), "--device", cfg.size.device),
        ),
        after=after,
    )


def _finals(cfg: CampaignConfig, folder: Path, best: Mapping[str, str]) -> list[Job]:
    of_cell = family_of(cfg)
    wanted: dict[tuple[str, int], tuple[str, ...]] = {}
    if cfg.search.variants:
        for cell, family in of_cell.items():
            wanted |= {(cell, seed): _search_of(cell, family) for seed in cfg.train.final_seeds}
    else:
        for family in families(cfg).values():
            after = tuple(f"select-{cell}" for cell in family.cells)
            for seed in cfg.train.final_seeds:
                cell = best.get(family.name, f"best of {family.name}")
                wanted[cell, seed] = _search_of(cell, family) if family.name in best else after
        if cfg.train.train_all:
            for cell, family in of_cell.items():
                wanted.setdefault((cell, cfg.train.final_seeds[0]), _search_of(cell, family))
    for cell in cfg.train.baselines:
        wanted |= {(cell, seed): () for seed in cfg.train.baseline_seeds}
    return [
        Job(
            name=f"final-{cell.replace(' ', '_')}-seed{seed}",
            stage="final",
            cell=cell,
            seed=seed,
            entry="train",
            preset=PRESETS["train"],
            flags=("--arch", arch_of(cell, of_cell.get(cell), folder), "--held_out", "0", "--device", cfg.size.device),
            after=after,
        )
        for (cell, seed), after in wanted.items()
    ]


def _imagenet(cfg: CampaignConfig, folder: Path, family: Family, best: Mapping[str, str], seed: int) -> Job:
    cell = best.get(family.name, f"best of {family.name}")
    is_known = family.name in best
    return Job(
        name=f"imagenet-{cell.replace(' ', '_')}-seed{seed}",
        stage="imagenet",
        cell=cell,
        seed=seed,
        entry="train_imagenet",
        preset=PRESETS["train_imagenet"],
        flags=("--arch", arch_of(cell, family if is_known else None, folder), "--device", cfg.size.device),
        after=_search_of(cell, family) if is_known else tuple(f"select-{other}" for other in family.cells),
    )


def _search_of(cell: str, family: Family) -> tuple[str, ...]:
    return () if family.is_random else (f"search-{cell}",)
