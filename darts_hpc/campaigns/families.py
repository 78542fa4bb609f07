"""Families of a campaign: cells that compete with each other, found by one method in one space or drawn at random."""

from dataclasses import dataclass

from darts_hpc.config.campaign import CampaignConfig

RANDOM = "random"
"""The method of random cells."""
TITLES = {"first_order": "first order", "unrolled": "second order", RANDOM: "random search"}
"""What reports call the methods that are no variants."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Cells of one method in one space.

    name: part of its jobs' names. space: "" for that of the campaign's preset. flags: tokens of train_search, after
    that preset. preset: file in the campaign's folder that its searches read; "" for random cells.
    """

    name: str
    method: str
    space: str
    cells: tuple[str, ...]
    flags: tuple[str, ...] = ()
    preset: str = ""
    title: str

    @property
    def is_random(self) -> bool:
        """Whether no search found its cells."""
        return self.method == RANDOM


def families(cfg: CampaignConfig) -> dict[str, Family]:
    """Return every family by its name: space by space its searches, then its random cells."""
    found = []
    for space in cfg.search.spaces or ("",):
        for method in cfg.search.methods:
            if space in method.spaces:
                found.append(_searched(cfg, method.name, space, method.flags))
        if cfg.search.random_cells:
            found.append(_random(cfg, space))
    return {family.name: family for family in found}


def family_of(cfg: CampaignConfig) -> dict[str, Family]:
    """Return cell -> its family; a published cell has none."""
    return {cell: family for family in families(cfg).values() for cell in family.cells}


def _searched(cfg: CampaignConfig, method: str, space: str, flags: tuple[str, ...]) -> Family:
    name = f"{space}-{method}" if space else method
    return Family(
        name=name,
        method=method,
        space=space,
        cells=tuple(f"{name}-seed{seed}" for seed in cfg.search.search_seeds),
        flags=(*flags, "--space", space) if space else flags,
        preset=f"search-{name}.yaml" if space else "search.yaml",
        title=_title(method if cfg.search.variants else TITLES[method], space),
    )


def _random(cfg: CampaignConfig, space: str) -> Family:
    name = f"{space}-{RANDOM}" if space else RANDOM
    seeds = range(cfg.search.random_seed, cfg.search.random_seed + cfg.search.random_cells)
    cells = tuple(f"{name}-{seed}" for seed in seeds)
    return Family(name=name, method=RANDOM, space=space, cells=cells, title=_title(TITLES[RANDOM], space))


def _title(method: str, space: str) -> str:
    return f"{method} in {space}" if space else method
