"""The stacked supernet is the plain one: outputs, gradients, statistics, state dicts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.state_dicts import export_original, load_original
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def supernet(kind: str, channels: int = 4, layers: int = 4, **options) -> RelaxedNetwork:
    """A supernet in float64 whose alphas are far from uniform; the same weights and alphas for every kind."""
    torch.manual_seed(0)
    built = build_supernet(kind, channels, layers, 5, **options).double()
    with torch.no_grad():
        for alpha in built.alphas():
            alpha.normal_()
    return built


def images(side: int) -> Tensor:
    return torch.randn(len(LABELS), 3, side, side, generator=torch.Generator().manual_seed(1)).double()


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        scale = theirs[name].double().abs().max().clamp_min(1e-3)
        assert ((ours[name] - theirs[name]).abs().max() / scale).item() < 1e-12, name


def one_pass(net: RelaxedNetwork, side: int) -> dict[str, Tensor]:
    """Loss and gradients of a training pass, by the original's names; the state after it; the output in evaluation."""
    loss = F.cross_entropy(net(images(side)), LABELS)
    gradients = torch.autograd.grad(loss, [*net.weights(), *net.alphas()])
    named = net.original_layout(dict(zip(net.named_weights(), gradients, strict=False)))
    named |= dict(zip(net.named_alphas(), gradients[-2:], strict=True))
    state = {f"state {name}": tensor for name, tensor in net.state_dict().items()}
    evaluated = net.eval()(images(side))
    return {"loss": loss, "evaluated": evaluated, **named, **state}


@pytest.mark.parametrize("checkpoint_cells", [False, True])
@pytest.mark.parametrize("side", [8, 9, 10, 15])
def test_it_equals_the_plain_supernet_in_training_and_evaluation(side, checkpoint_cells):
    plain, stacked = supernet("plain"), supernet("stacked", checkpoint_cells=checkpoint_cells)
    assert_equal(one_pass(stacked, side), one_pass(plain, side))


def test_more_cells_and_channels_follow_too():
    assert_equal(one_pass(supernet("stacked", 6, 8), 8), one_pass(supernet("plain", 6, 8), 8))


def test_imagenets_stem_follows_too():
    stacked, plain = (supernet(kind, layers=3, stem="imagenet") for kind in ("stacked", "plain"))
    assert_equal(one_pass(stacked, 70), one_pass(plain, 70))  # sides of 35, 18 and 9, the first padded


def test_the_same_seed_draws_the_same_weights_and_alphas():
    torch.manual_seed(3)
    plain = build_supernet("plain", 4, 3, 5).state_dict()
    torch.manual_seed(3)
    stacked = build_supernet("stacked", 4, 3, 5).state_dict()
    assert plain.keys() == stacked.keys() and all(torch.equal(plain[name], stacked[name]) for name in plain)


@pytest.mark.parametrize("kinds", [("plain", "stacked"), ("stacked", "plain")])
def test_a_trained_state_moves_to_the_other_form_and_back_to_the_bit(kinds):
    first, second = (supernet(kind) for kind in kinds)
    with torch.no_grad():
        for _ in range(3):
            first(images(8) * 2 + 1)
    state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert state["cells.0._ops.5._ops.1.1.num_batches_tracked"] == 3
    second.load_state_dict(state)
    moved = second.state_dict()
    assert all(torch.equal(moved[name], state[name]) for name in state)
    again = supernet(kinds[0])
    load_original(again, export_original(second))
    torch.testing.assert_close(second.eval()(images(9)), again.eval()(images(9)), rtol=1e-12, atol=0)


def test_frozen_statistics_stay_and_the_output_is_that_of_training():
    net = supernet("stacked")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with frozen_running_statistics(net):
        frozen = net(images(8))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(frozen, net(images(8)))
    assert not torch.equal(before["stem.1.running_mean"], net.state_dict()["stem.1.running_mean"])


def test_pools_with_different_statistics_on_edges_of_one_state_are_refused_and_change_nothing():
    net = supernet("stacked")
    state = {name: tensor.clone() for name, tensor in supernet("plain").state_dict().items()}
    state["cells.1._ops.0._ops.1.1.running_mean"] += 1
    state["classifier.bias"] += 1
    before = net.state_dict()["classifier.bias"].clone()
    with pytest.raises(ValueError, match=r"_ops\.0\._ops\.1\.1\.running_mean.* differ.*--supernet plain"):
        net.load_state_dict(state)
    assert torch.equal(net.state_dict()["classifier.bias"], before)


def test_a_state_of_another_network_is_refused():
    state = supernet("stacked").state_dict()
    state.pop("classifier.bias")
    with pytest.raises(RuntimeError, match=r"missing keys \['classifier.bias'\], unexpected keys \['surprise'\]"):
        supernet("stacked").load_state_dict({**state, "surprise": torch.zeros(1)})


def test_another_search_space_is_refused():
    with pytest.raises(ValueError, match="supports only the 8 default primitives and 4 nodes"):
        build_supernet("stacked", 4, 3, 5, num_nodes=3)


def test_norms_over_the_joined_batch_of_ranks_take_the_place_of_its_own(monkeypatch):
    """The joined batch of one process is its own batch."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    alone, joined = supernet("stacked"), supernet("stacked")
    synchronise_batch_norm(joined, World(torch.device("cpu"), size=2))
    assert not any(type(module) is torch.nn.BatchNorm2d for module in joined.modules())
    assert_equal(one_pass(joined, 8), one_pass(alone, 8))
