"""Counter-based random numbers against a second implementation, and their statistics."""

import itertools

import pytest
import torch
from scipy import stats

from darts_hpc import counter_rng

MASK = 2**64 - 1


def splitmix_hash(*keys: int) -> int:
    """Unsigned arithmetic on Python's unbounded integers: a second implementation of random_bits."""
    state = 0
    for key in keys:
        state = ((state ^ (key & MASK)) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def test_one_zero_key_gives_the_first_number_of_splitmix64():
    assert int(counter_rng.random_bits(0)) & MASK == 0xE220A8397B1DCDAF  # splitmix64 seeded with 0


def test_bits_equal_those_of_unsigned_integer_arithmetic():
    values = [0, 1, 2, 50_000, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63)]
    for keys in itertools.product(values, repeat=2):
        assert int(counter_rng.random_bits(*keys)) & MASK == splitmix_hash(*keys), keys
    ids = torch.tensor([0, 7, 2**62, -3])
    expected = [splitmix_hash(5, int(i), 2) for i in ids]
    assert [bits & MASK for bits in counter_rng.random_bits(5, ids, 2).tolist()] == expected


def test_uniform_and_randint_are_the_top_bits():
    ids = torch.arange(1000)
    top = [splitmix_hash(3, i) >> 11 for i in range(1000)]
    assert counter_rng.uniform(3, ids).tolist() == [bits / 2**53 for bits in top]
    assert counter_rng.randint(10, 3, ids).tolist() == [bits * 10 >> 53 for bits in top]


def test_keys_broadcast_and_their_order_matters():
    rows, columns = torch.arange(3)[:, None], torch.arange(4)
    table = counter_rng.random_bits(1, rows, columns)
    assert table.shape == (3, 4) and table.dtype == torch.int64
    assert all(table[i, j] == counter_rng.random_bits(1, i, j) for i in range(3) for j in range(4))
    assert counter_rng.random_bits(1, 2) != counter_rng.random_bits(2, 1)
    assert counter_rng.random_bits(1) != counter_rng.random_bits(1, 0)


def test_values_do_not_depend_on_the_other_elements():
    ids = torch.arange(1000)
    assert counter_rng.random_bits(9, ids)[617] == counter_rng.random_bits(9, 617)


@pytest.mark.parametrize("keys", [(torch.arange(100_000),), (0, torch.arange(100_000), 1), (torch.arange(100_000), 7)])
def test_uniform_is_uniform(keys):
    draws = counter_rng.uniform(*keys)
    assert draws.dtype == torch.float64 and draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 9, 32, 1000])
def test_randint_covers_its_range_evenly(high: int):
    counts = counter_rng.randint(high, 4, torch.arange(100_000)).bincount(minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 3, 5, 7, 1000, 2**31 - 1])
def test_randint_stays_below_high_for_the_largest_uniform(high: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counter_rng, "uniform", lambda *keys: torch.tensor(1 - 2.0**-53, dtype=torch.float64))
    assert counter_rng.randint(high, 0) == high - 1


def test_each_bit_is_fair():
    bits = counter_rng.random_bits(0, torch.arange(20_000))
    ones = torch.stack([(bits >> i & 1).sum() for i in range(64)])
    assert (ones - 10_000).abs().max() < 5 * 20_000**0.5 / 2  # five standard deviations


@pytest.mark.parametrize("other", [(0, 1), (1, 0)], ids=["stream", "seed"])
def test_streams_and_seeds_are_independent(other: tuple[int, int]):
    ids = torch.arange(50_000)
    pairs = counter_rng.randint(10, 0, ids, 0) * 10 + counter_rng.randint(10, other[0], ids, other[1])
    assert stats.chisquare(pairs.bincount(minlength=100).numpy()).pvalue > 1e-3


def test_neighbouring_ids_are_independent():
    draws = counter_rng.randint(10, 0, torch.arange(50_001))
    assert stats.chisquare((draws[:-1] * 10 + draws[1:]).bincount(minlength=100).numpy()).pvalue > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_bits():
    ids = torch.arange(-500, 500)
    assert torch.equal(counter_rng.random_bits(1, ids.cuda(), 2).cpu(), counter_rng.random_bits(1, ids, 2))
    assert torch.equal(counter_rng.uniform(1, ids.cuda()).cpu(), counter_rng.uniform(1, ids))
    assert torch.equal(counter_rng.randint(9, 1, ids.cuda()).cpu(), counter_rng.randint(9, 1, ids))
