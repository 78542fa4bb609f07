"""The moving average of weights is timm's, in every form of the network, and stays what a CUDA graph can hold."""

import pytest
import torch
from torch import Tensor

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import AnyDerivedNetwork, choose_network
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.training.weight_average import WeightAverage, warmed_up


def network_of(form: str, dtype: torch.dtype = torch.float64) -> AnyDerivedNetwork:
    torch.manual_seed(0)
    plain = DerivedNetwork("cifar", 4, 10, 3, True, GENOTYPES["DARTS_V1"]).to(dtype)
    return choose_network(form, plain, torch.device("cpu"))[0].train()


def steps(network: AnyDerivedNetwork, count: int):
    """Take steps whose weights and statistics are far from one another."""
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    dtype = next(network.parameters()).dtype
    for step in range(count):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step)).to(dtype)
        logits, auxiliary = network(images)
        optimizer.zero_grad()
        (logits.softmax(1)[:, 0].sum() - auxiliary.softmax(1)[:, 1].sum()).backward()
        optimizer.step()
        yield step


@pytest.mark.parametrize("form", ["plain", "fast"])
def test_weights_and_statistics_are_averaged_as_timms_ema_does(form: str):
    timm = pytest.importorskip("timm.utils")
    network = network_of(form)
    theirs = timm.ModelEmaV3(network, decay=0.6, use_warmup=True)
    ours = WeightAverage(network, decay=0.6)
    for step in steps(network, 6):
        theirs.update(network, step=step + 1)
        ours.begin_step(step)
        ours.update()
        assert warmed_up(0.6, step) == theirs.get_decay(step + 1)
    expected = theirs.module.state_dict()
    for name, average in ours.network.state_dict().items():
        torch.testing.assert_close(average, expected[name], rtol=1e-12, atol=1e-14)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(ours.network.eval()(images)[0], theirs.module.eval()(images)[0], rtol=1e-9, atol=1e-9)


def test_the_decay_rises_from_0_to_the_one_that_is_asked_for():
    decays = [warmed_up(0.9999, step) for step in (0, 1, 100, 31_600, 10**6 - 1, 10**7)]
    assert decays[0] == 0 and decays == sorted(decays)
    assert decays[3] == pytest.approx(0.999, abs=2e-6)  # as timm's docstring says
    assert decays[4] == pytest.approx(0.9999) and decays[5] == 0.9999


def test_an_update_reads_and_writes_the_same_tensors_and_no_number_of_the_step():
    network = network_of("fast", torch.float32)
    average = WeightAverage(network, 0.9)
    places = [tensor.data_ptr() for tensor in average.network.state_dict().values()]
    shared = {tensor.data_ptr() for tensor in network.state_dict().values()}

    def update() -> dict[str, Tensor]:
        average.update()
        return {name: tensor.clone() for name, tensor in average.network.state_dict().items()}

    average.begin_step(1000)
    list(steps(network, 1))
    first = update()
    average.begin_step(0)  # what a graph that is replayed reads anew
    again = update()
    assert [tensor.data_ptr() for tensor in average.network.state_dict().values()] == places
    assert not shared & set(places)
    newest = network.state_dict()
    for name, tensor in again.items():
        torch.testing.assert_close(tensor, newest[name])
    assert not torch.allclose(first["classifier.weight"], newest["classifier.weight"])


def test_weights_that_stay_are_their_own_average_to_the_last_bit():
    network = network_of("plain", torch.float32)
    average = WeightAverage(network, 0.9999)
    for step in range(20):
        average.begin_step(step)
        average.update()
    assert all(map(torch.equal, average.network.state_dict().values(), network.state_dict().values()))
