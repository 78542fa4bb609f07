"""Learning rates against the numbers that the original's runs logged, and against torch's own schedule."""

import pytest
import torch

from darts_hpc.config.schema import SearchOptimConfig
from darts_hpc.engine.optim import build_sgd, cosine_learning_rate, set_learning_rate


def test_search_rates_are_those_the_original_logged():
    rates = [cosine_learning_rate(epoch, 50, 0.025, 0.001) for epoch in range(50)]
    assert rates[0] == 0.025
    assert rates[-1] == pytest.approx(1.0237e-3, abs=5e-8)


@pytest.mark.parametrize(("epochs", "maximum", "minimum"), [(50, 0.025, 0.001), (600, 0.025, 0.0)])
def test_rates_equal_torchs_schedule_when_that_is_stepped_at_the_end_of_each_epoch(epochs, maximum, minimum):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], maximum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=minimum)
    for epoch in range(epochs):
        expected = optimizer.param_groups[0]["lr"]
        assert cosine_learning_rate(epoch, epochs, maximum, minimum) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        schedule.step()


def test_sgd_is_the_originals():
    optimizer = build_sgd([torch.nn.Parameter(torch.zeros(1))], SearchOptimConfig())
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.025, 0.9, 3e-4)
    assert not (group["nesterov"] or group["dampening"])
    set_learning_rate(optimizer, 0.5)
    assert group["lr"] == 0.5
