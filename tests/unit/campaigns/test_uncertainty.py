"""Intervals and rank tests, against SciPy's own, a whole enumeration, and what they promise of few cells."""

from itertools import combinations

import numpy as np
import pytest

from darts_hpc.campaigns.uncertainty import Difference, paired_interval, rank_test


def test_of_many_cells_the_interval_is_that_of_scipys_bootstrap():
    from scipy import stats  # takes a second, in every process that collects this file

    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(90, 1, (80, 1)), draw.normal(89, 2, (60, 1))
    found = paired_interval(ours, theirs)
    theirs_too = stats.bootstrap(
        (ours[:, 0], theirs[:, 0]), lambda x, y, axis: x.mean(axis) - y.mean(axis), method="percentile", rng=1
    ).confidence_interval
    assert found == pytest.approx(tuple(theirs_too), abs=0.05)


def test_what_a_training_seed_does_to_all_cells_alike_is_no_part_of_the_interval():
    draw = np.random.default_rng(1)
    ours, theirs = draw.normal(90, 1, (4, 3)), draw.normal(89, 1, (6, 3))
    lucky = np.array([[5.0, 0.0, -5.0]])
    assert paired_interval(ours + lucky, theirs + lucky) == pytest.approx(paired_interval(ours, theirs))


def test_of_three_cells_and_six_the_interval_holds_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        seeds = draw.normal(0, 0.3, 2)
        ours, theirs = (draw.normal(0, 1, (n, 1)) + draw.normal(0, 0.5, (n, 2)) + seeds for n in (3, 6))
        low, high = paired_interval(ours, theirs)
        held += low <= 0 <= high
    assert held / 150 > 0.92  # plain percentiles: 0.85


@pytest.mark.parametrize("numbers", [(5.0, 3.0, 4.0, 1.0, 2.0, 0.5), (2.0, 2.0, 3.0, 2.0, 1.0, 1.0)])
def test_the_rank_test_counts_every_division_of_the_numbers_also_with_ties(numbers):
    def u(ours, theirs):
        return sum((x > y) + 0.5 * (x == y) for x in ours for y in theirs)

    ours, theirs = numbers[:3], numbers[3:]
    apart = abs(u(ours, theirs) - 4.5)
    divisions = list(combinations(range(6), 3))
    extreme = 0
    for own in divisions:
        rest = [numbers[i] for i in range(6) if i not in own]
        extreme += abs(u([numbers[i] for i in own], rest) - 4.5) >= apart
    assert rank_test(np.array(ours), np.array(theirs)) == pytest.approx(extreme / len(divisions))


@pytest.mark.parametrize(("n", "m"), [(4, 24), (24, 4), (8, 8), (40, 40)])
def test_of_many_cells_the_rank_test_is_exact_too(n: int, m: int):
    from scipy import stats

    draw = np.random.default_rng(n)
    ours, theirs = draw.normal(0.5, 1, n), draw.normal(0, 1, m)
    assert rank_test(ours, theirs) == pytest.approx(stats.mannwhitneyu(ours, theirs, method="exact").pvalue)
    apart = Difference.of((ours[:, None] + 100).tolist(), theirs[:, None].tolist())
    assert apart.p == pytest.approx(apart.smallest_p)


def test_a_method_wholly_above_has_the_smallest_p_that_so_few_cells_allow():
    apart = Difference.of([[91.0, 91.2], [92.0, 91.0], [93.0, 92.8]], [[80.0, 81.0], [82.0, 81.0]])
    assert apart.p == pytest.approx(apart.smallest_p) == pytest.approx(2 / 10) and apart.stands_out
    assert apart.mean == pytest.approx(np.mean([91.0, 91.2, 92.0, 91.0, 93.0, 92.8]) - 81.0)
    alone = Difference.of([[91.0]], [[80.0], [82.0]])
    assert alone == Difference(10.0, None, None, None, None) and not alone.stands_out
