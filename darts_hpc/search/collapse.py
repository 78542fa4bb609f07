"""Detect a collapsed cell, in which operations without weights prevail (Zela et al., 2020)."""

from darts_hpc.space.genotypes import Genotype

MANY_SKIPS, MANY_FREE = 5, 7
"""Of a normal cell's 8 edges: random cells of DARTS' 7 operations have as many skip connections in 1 of 1,300, and as
many edges without weights in 1 of 77 (binomial, with chances 1/7 and 3/7)."""


def collapse_line(genotype: Genotype) -> str:
    """Return a line that says whether the normal cell looks collapsed, and what to try if so."""
    num_edges, skips, free = len(genotype.normal), genotype.num_skip_connects, genotype.num_parameter_free
    found = f"{skips} of the normal cell's {num_edges} edges are skip connections, {free} are without weights"
    if skips * 8 >= MANY_SKIPS * num_edges or free * 8 >= MANY_FREE * num_edges:
        return (
            f"the cell looks collapsed: {found}; 1 random cell in 77 has {MANY_SKIPS} skips or {MANY_FREE} without "
            "weights; try --config configs/search/darts_pt.yaml or configs/search/pc_darts.yaml"
        )
    return f"the cell does not look collapsed: {found}"
