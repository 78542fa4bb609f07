"""benchmarks/search_step.py compares with a baseline that computes what our search computes."""

from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def test_the_baseline_has_our_alpha_gradients(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import search_step

    errors = search_step.check_same_gradients(("stacked",))
    assert set(errors) == {"stacked_first_order", "stacked_unrolled"}
    assert max(errors.values()) < 1e-7
