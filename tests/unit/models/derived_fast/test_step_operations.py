"""A training step of the paper's networks stays few operations, as benchmarks/train_step.py counts them."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "operations", "kernels", "gigabytes"),
    [("cifar", 1300, 1700, 0.9 * 71.4), ("imagenet", 800, 1100, 0.9 * 69.0)],  # traffic: 0.9 times the plain form's
)
def test_a_step_of_the_fast_network_is_few_operations(name, operations, kernels, gigabytes, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    counted = train_step.count(train_step.FULL[name], "fast")
    assert counted.total() <= operations
    assert counted.total("kernels") <= kernels
    assert counted.total("bytes") <= gigabytes * 1e9
    assert counted.parts["batch"]["operations"] <= 30
