"""benchmarks/scaling_model.py computes what its formulas say, on cases worked out by hand."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import scaling_model

    monkeypatch.setattr(scaling_model, "START_S", 0.0)
    return scaling_model


def test_an_all_reduce_is_the_shorter_of_ring_and_tree(model):
    fast = model.Link(bandwidth=1e9, latency_s=1e-3)
    assert model.all_reduce_s(4e9, 4, fast) == pytest.approx(6 * (1e-3 + 1.0))  # ring: 6 parts of 1e9 bytes
    assert model.all_reduce_s(1e3, 16, fast) == pytest.approx(8e-3 + 2e-6)  # tree: 4 levels up, 4 down
    assert model.all_reduce_s(4e9, 1, fast) == 0


def test_nodes_share_their_bytes_out_among_their_gpus(model):
    fabric = model.Fabric(inner=model.Link(10e9, 0.0), outer=model.Link(1e9, 0.0), per_node=4)
    assert fabric.all_reduce_s(4e9, 4) == pytest.approx(6 * 0.1)  # one node: a ring of 4
    # 3 parts of 1e9 to scatter and 3 to gather inside; between 2 nodes 1e9 bytes, 2 halves of them one way
    assert fabric.all_reduce_s(4e9, 8) == pytest.approx(6 * 0.1 + 2 * 0.5)
    assert fabric.all_reduce_s(4e9, 1) == 0


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
    # a ring of 2 has 2 messages of 0.05 s: 2 / 2.1 is above 0.95; of 4, tree: 4 of them, 2 / 2.2 is not
    assert model.last_above(0.95, step, slow, (1, 2, 4, 8)) == 2
    # 8 images: 2.0, 1.0 + 0.1, 0.5 + 0.2, 0.25 + 0.3 s; and no GPU without an image
    assert model.fastest_split(step, slow, 8, (1, 2, 4, 8, 16)) == 8
    assert model.fastest_split(step, slow, 2, (1, 2, 4, 8)) == 2


def test_a_link_is_found_again_from_the_times_of_its_ring(model):
    import scaling_check

    link = model.Link(bandwidth=2e9, latency_s=30e-6)
    seconds = {size: scaling_check.ring_s(size, 4, link) for size in scaling_check.SIZES}
    found = scaling_check.fit_link(seconds, 4)
    assert (found.bandwidth, found.latency_s) == pytest.approx((2e9, 30e-6), rel=1e-4)
