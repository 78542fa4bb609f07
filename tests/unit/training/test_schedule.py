"""ImageNet's learning rates against numbers written down elsewhere: logs of the originals, and torch's schedules."""

import itertools

import pytest
import torch

from darts_hpc.config.train_imagenet import ImageNetOptimConfig
from darts_hpc.training.schedule import imagenet_learning_rate, linear_learning_rate, step_learning_rate


def rates(epochs: int, **flags) -> list[float]:
    cfg = ImageNetOptimConfig(**flags)
    return [imagenet_learning_rate(epoch, epochs, cfg) for epoch in range(epochs)]


def test_the_default_is_what_the_originals_imagenet_run_logged():
    """Its log: 0.1, 0.097, ...; StepLR(1, 0.97) by hand beyond that."""
    first = rates(250)
    assert first[:4] == pytest.approx([0.1, 0.097, 0.09409, 0.0912673], rel=1e-12)
    assert first[249] == pytest.approx(5.0835e-05, rel=1e-5)


@pytest.mark.parametrize(("period", "gamma"), [(1, 0.97), (3, 0.5)])
def test_step_equals_torchs_when_that_is_stepped_at_the_end_of_each_epoch(period, gamma):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, period, gamma)
    for epoch in range(20):
        assert step_learning_rate(epoch, 0.1, gamma, period) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_linear_with_warm_up_is_pc_darts_own_sequence():
    """250 epochs, 0.5: (245 - e) / 245 of it, times 1/5 .. 5/5 at first; 2.0408e-3 to 0.4082e-3 in the last five."""
    got = rates(250, lr_schedule="linear", learning_rate=0.5, warmup_epochs=5)
    assert got[:7] == pytest.approx(
        [0.1, 0.199183673, 0.297551020, 0.395102041, 0.491836735, 0.489795918, 0.487755102], rel=1e-8
    )
    assert got[123] == pytest.approx(0.248979592, rel=1e-8)
    tail = [2.0408163e-3, 2.0408163e-3, 1.6326531e-3, 1.2244898e-3, 0.8163265e-3, 0.4081633e-3]
    assert got[244:] == pytest.approx(tail, rel=1e-7)
    assert all(a >= b for a, b in itertools.pairwise(got[5:]))


def test_a_run_shorter_than_linears_tail_goes_straight_to_zero():
    assert [linear_learning_rate(epoch, 4, 0.4) for epoch in range(4)] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_cosine_with_warm_up_is_the_cosine_once_warm():
    got = rates(20, lr_schedule="cosine", learning_rate=0.5, warmup_epochs=5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for epoch, rate in enumerate(got):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"] * min(1, (epoch + 1) / 5))
        optimizer.step()
        schedule.step()
