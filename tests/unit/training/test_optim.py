"""Learning rates against the numbers that the original's runs logged, and against torch's own schedule."""

import pytest
import torch

from darts_hpc.config.train_search import SearchOptimConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.training.optim import MomentumByName, build_sgd, set_learning_rate
from darts_hpc.training.schedule import cosine_learning_rate
from darts_hpc.training.search_step import weight_step


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


@pytest.mark.parametrize("kinds", [("plain", "stacked"), ("stacked", "plain")])
def test_momentum_moves_between_forms_of_the_supernet_so_that_the_next_step_is_the_same(kinds):
    def search(kind: str):
        torch.manual_seed(0)
        supernet = build_supernet(kind, 4, 3, 5).double()
        return supernet, torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4)

    def step(supernet, optimizer, seed: int) -> None:
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
        batch = images, torch.tensor([0, 1, 2, 3])
        weight_step(supernet, optimizer, batch, grad_clip=5.0, world=World(torch.device("cpu")))

    (first, first_sgd), (second, second_sgd) = search(kinds[0]), search(kinds[1])
    assert MomentumByName(first_sgd, first).state_dict() == {"momentum_buffer": {}}
    step(first, first_sgd, 1)
    saved = MomentumByName(first_sgd, first).state_dict()
    assert set(saved["momentum_buffer"]) == set(SuperNet(4, 3, 5).named_weights())
    second.load_state_dict(first.state_dict())
    MomentumByName(second_sgd, second).load_state_dict(saved)
    for supernet, optimizer in ((first, first_sgd), (second, second_sgd)):
        step(supernet, optimizer, 2)
    moved = second.state_dict()
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(moved[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def test_momentum_of_a_weight_that_the_network_lacks_is_refused():
    supernet = build_supernet("plain", 4, 3, 5)
    momentum = MomentumByName(torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9), supernet)
    with pytest.raises(ValueError, match=r"momentum of 'stem.9.weight', which is no weight of this network"):
        momentum.load_state_dict({"momentum_buffer": {"stem.9.weight": torch.zeros(1)}})
