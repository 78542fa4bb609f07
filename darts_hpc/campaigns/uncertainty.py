"""How sure a difference between two methods is: an interval by the bootstrap, and a rank test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
DRAWS = 10_000


@dataclass(frozen=True)
class Difference:
    """A method's mean accuracy less that of random cells, in points of a percent.

    low, high: its 95 % interval. p: of the rank test. smallest_p: the least that test can give with so many cells. None
    where a side has one cell.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    smallest_p: float | None

    @property
    def stands_out(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @classmethod
    def of(cls, ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> "Difference":
        """Compare accuracies (cells, trainings) of two methods; a column has the same training seed on both sides."""
        own, other = np.asarray(ours), np.asarray(theirs)  # (n, M), (m, M)
        mean = float(own.mean() - other.mean())
        if min(len(own), len(other)) < 2:
            return cls(mean, None, None, None, None)
        smallest = 2 / math.comb(len(own) + len(other), len(own))
        return cls(mean, *paired_interval(own, other), rank_test(own.mean(1), other.mean(1)), smallest)


def paired_interval(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the difference of means of ours (n, M) and theirs (m, M), of two cells or more each.

    Cells are drawn anew, with replacement, on each side; training seeds, the columns, once for both sides, which makes
    it a paired bootstrap: a seed that is good for all cells does not look like a difference. Percentiles of few cells
    are too close together, by the deviation's n / (n - 1) and by Student's t; the expanded ones (Hesterberg, 2015,
    section 5.3) are not.
    """
    from scipy import stats

    draw = np.random.default_rng(seed)
    seeds = draw.integers(ours.shape[1], size=(DRAWS, ours.shape[1]))
    means = []
    for side in (ours, theirs):
        cells = draw.integers(len(side), size=(DRAWS, len(side)))
        per_seed = side[cells].mean(1)  # (DRAWS, M)
        means.append(np.take_along_axis(per_seed, seeds, 1).mean(1))
    fewest, tail = min(len(ours), len(theirs)), (1 - LEVEL) / 2
    tail = stats.norm.cdf(stats.t.ppf(tail, fewest - 1) * math.sqrt(fewest / (fewest - 1)))
    low, high = np.quantile(means[0] - means[1], (tail, 1 - tail))
    return float(low), float(high)


def rank_test(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the two-sided p of Mann and Whitney's test of n numbers against m: exact, also of many and with ties.

    Of all C(n + m, n) ways to choose n of the numbers it counts those that have a sum of ranks as far out, or farther.
    Two-sided is twice the smaller tail, as SciPy has it.
    """
    few, many = sorted((ours, theirs), key=len)
    _, place, count = np.unique(np.concatenate((few, many)), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(count) - count + 1)[place]  # twice the rank, of equal numbers their mean: whole numbers
    largest = int(np.sort(ranks)[-len(few) :].sum())
    ways = np.zeros((len(few) + 1, largest + 1))  # [k, s]: of choosing k numbers whose ranks sum up to s
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    found = ranks[: len(few)].sum()
    tail = min(ways[-1, : found + 1].sum(), ways[-1, found:].sum())
    return min(1.0, float(2 * tail / ways[-1].sum()))
