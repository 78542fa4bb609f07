"""Detect a collapsed cell, in which operations without weights prevail (Zela et al., 2020)."""

from collections.abc import Collection
from itertools import combinations

from darts_hpc.config.train_search import SearchConfig
from darts_hpc.space.genotypes import PARAMETER_FREE, Genotype
from darts_hpc.space.spaces import EdgeLists, SearchSpace

RARE = 0.015
"""A cell looks collapsed when no larger share of its space's random cells has as many skip connections, or as many
edges without weights. In the space darts these are 5 skip connections (0.08 %) or 7 edges without weights (1.3 %)."""


def collapse_line(genotype: Genotype, space: SearchSpace, presets: Collection[str]) -> str:
    """Return a line that says whether the normal cell looks collapsed, and which of some presets to try if so."""
    num_edges, skips, free = len(genotype.normal), genotype.num_skip_connects, genotype.num_parameter_free
    as_many_skips = _chance_of_at_least(skips, space.normal, ("skip_connect",))
    as_many_free = _chance_of_at_least(free, space.normal, PARAMETER_FREE)
    found = (
        f"{skips} of the normal cell's {num_edges} edges are skip connections, {free} are without weights; of random "
        f"cells {100 * as_many_skips:.3g} % have as many skip connections, {100 * as_many_free:.3g} % as many without"
    )
    if min(as_many_skips, as_many_free) > RARE:
        return f"the cell does not look collapsed: {found}"
    ways = " or ".join(f"configs/search/{name}.yaml" for name in presets)
    return f"the cell looks collapsed: {found}; try --config {ways}"


def presets_to_try(cfg: SearchConfig) -> list[str]:
    """Return two presets against collapse that a search has not used, the best first."""
    used = {
        "robust": cfg.model.auxiliary_skip != "none",
        "darts_pt": cfg.selection.selection == "perturbation",
        "pc_darts": cfg.model.partial_channels > 1,
        "sdarts_rs": cfg.optim.perturb != "none",
        "beta_darts": cfg.arch_optim.alpha_regulariser != "none",
    }
    return sorted(used, key=used.__getitem__)[:2]


def _chance_of_at_least(count: int, edges: EdgeLists, operations: Collection[str]) -> float:
    """Return the share of random cells, as random_genotype draws them, with at least `count` of these operations."""
    chances, incoming, num_inputs = [1.0], list(edges), 2
    while incoming:
        candidates = [[name for name in edge if name != "none"] for edge in incoming[:num_inputs]]
        shares = [sum(name in operations for name in names) / len(names) for names in candidates]
        pairs = list(combinations(shares, 2))
        both = sum(a * b for a, b in pairs) / len(pairs)
        one = sum(a * (1 - b) + (1 - a) * b for a, b in pairs) / len(pairs)
        node = (max(0.0, 1 - one - both), one, both)
        chances = [
            sum(chances[at - more] * node[more] for more in range(3) if 0 <= at - more < len(chances))
            for at in range(len(chances) + 2)
        ]
        incoming, num_inputs = incoming[num_inputs:], num_inputs + 1
    return min(1.0, sum(chances[count:]))
