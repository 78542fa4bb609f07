"""benchmarks/scaling_model.py computes what its formulas say, on cases worked out by hand."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import scaling_check
    import scaling_model

    for module in (scaling_model, scaling_check):
        monkeypatch.setattr(module, "START_S", 0.0)
    return scaling_model


def test_an_exchange_on_one_node_is_a_rings(model):
    link = model.Link(bandwidth=1e9, latency_s=1e-3)
    fabric = model.Fabric(link, link, per_node=8)
    assert fabric.exchange_s(4e9, 4) == pytest.approx(6 * (1e-3 + 1.0))  # each gets 3 parts of 1e9 bytes, twice
    assert fabric.exchange_s(4e9, 1) == 0


def test_between_nodes_each_gpu_has_a_card_and_parts_are_sent_on_within_the_node(model):
    fabric = model.Fabric(inner=model.Link(10e9, 1e-3), outer=model.Link(1e9, 0.1), per_node=4)
    # parts of 0.5e9: 3 from within and 4 from the other node; then 1 from there, and 3 times 1e9 bytes within
    scatter, gather = 3 * (0.001 + 0.05) + 4 * (0.1 + 0.5), (0.1 + 0.5) + 3 * (0.001 + 0.1)
    assert fabric.exchange_s(4e9, 8) == pytest.approx(scatter + gather)
    alone = model.Fabric(model.Link(1, 1), model.Link(1e9, 0.1), per_node=1)  # its inner link does not matter
    assert alone.exchange_s(4e9, 4) == pytest.approx(6 * (0.1 + 1.0))


def test_rates_and_the_batch_that_keeps_the_efficiency(model):
    link = model.Link(1e9, 0.0)
    fabric = model.Fabric(link, link, per_node=64)
    step = model.Step(seconds=0.9, images=90, messages=[100_000_000, 0], host_s=0.4)
    assert step.per_image_s == pytest.approx(0.01)
    assert step.communication_s(fabric, 2) == pytest.approx(0.1)  # a ring of two: 2 halves of 0.1 s
    assert step.rate(fabric, 1) == pytest.approx(100)
    assert step.rate(fabric, 2) == pytest.approx(2 * 90 / 1.0)
    assert step.efficiency(fabric, 2) == pytest.approx(0.9)
    assert step.rate(fabric, 2, images=10) == pytest.approx(2 * 10 / 0.5)  # the host needs 0.4 s
    assert step.images_for(fabric, 2) == 190  # 1.9 s of computing beside 0.1 s
    assert model.Step(1.9, 190, step.messages, 0.4).efficiency(fabric, 2) == pytest.approx(0.95)
    busy = model.Step(seconds=0.9, images=90, messages=[100_000_000], host_s=3.9)
    assert busy.images_for(fabric, 2) == 380  # 0.95 of the 4.0 s in which the host and its all-reduce are done


def test_where_it_stops_scaling(model):
    slow = model.Fabric(model.Link(1e9, 0.05), model.Link(1e9, 0.05), per_node=64)
    step = model.Step(seconds=2.0, images=8, messages=[4])
    # 2 GPUs have 2 messages of 0.05 s: 2 / 2.1 is above 0.95; 4 have 6 of them: 2 / 2.3 is not
    assert model.last_above(0.95, step, slow, (1, 2, 4, 8)) == 2
    # 8 images: 2.0, 1.0 + 0.1, 0.5 + 0.3, 0.25 + 0.7 s; and no GPU without an image
    assert model.fastest_split(step, slow, 8, (1, 2, 4, 8, 16)) == 4
    assert model.fastest_split(step, slow, 2, (1, 2, 4, 8)) == 2


def test_a_link_is_found_again_from_the_times_of_its_exchanges(model):
    import scaling_check

    link = model.Link(bandwidth=2e9, latency_s=30e-6)
    fabric = model.Fabric(link, link, per_node=4)
    found = scaling_check.fit_link({size: fabric.exchange_s(size, 4) for size in scaling_check.SIZES}, 4)
    assert (found.bandwidth, found.latency_s) == pytest.approx((2e9, 30e-6), rel=1e-4)


def test_a_search_step_exchanges_its_weights_gradients_and_those_of_its_alphas(model):
    import scaling

    first, unrolled = scaling.search_messages(None), scaling.search_messages("finite_difference")
    alphas, weights = 4 * 2 * 14 * 8, 4 * 1_930_618
    assert sorted(first) == [alphas, weights]
    assert sum(unrolled) == 3 * weights + 2 * alphas
