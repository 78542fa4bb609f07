"""The implementations of SGD: equal steps, and apex, probed and refused, by a stand-in of it on the CPU."""

import copy
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from darts_hpc.config.train_imagenet import ImageNetOptimConfig
from darts_hpc.training.optim import build_sgd, build_sgd_of, choose_optimizer_impl

CFG = ImageNetOptimConfig()


class StandInFusedSGD(torch.optim.SGD):
    """apex.optimizers.FusedSGD as far as it is documented: float16 and float32 are stepped, other weights never are."""

    def __init__(self, params, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)
        self.arguments = (lr, momentum, dampening, weight_decay, nesterov)


@pytest.fixture
def apex(monkeypatch):
    """Return a function that installs the stand-in, with the extensions or without."""

    def install(extensions: bool = True) -> None:
        optimizers = ModuleType("apex.optimizers")
        optimizers.FusedSGD = StandInFusedSGD  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))
        monkeypatch.setitem(sys.modules, "apex.optimizers", optimizers)
        monkeypatch.setitem(sys.modules, "amp_C", ModuleType("amp_C") if extensions else None)

    return install


def train(optimizer: torch.optim.Optimizer, weight: nn.Parameter, steps: int) -> None:
    for step in range(steps):
        weight.grad = torch.sin(weight.detach() * 3 + step)
        optimizer.step()


@pytest.mark.parametrize(("impl", "tolerance"), [("foreach", 0.0), ("fused", 1e-6)])
def test_implementations_take_the_same_steps(impl, tolerance):
    weights = [nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2)]
    train(build_sgd([weights[0]], CFG), weights[0], 10)
    train(build_sgd_of(impl, [weights[1]], CFG), weights[1], 10)
    assert torch.allclose(weights[0], weights[1], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("device", "expected"), [("cpu", "foreach"), ("cuda:0", "fused")])
def test_auto_is_fused_on_gpus_and_foreach_elsewhere(device, expected):
    assert choose_optimizer_impl("auto", torch.device(device)) == expected
    assert choose_optimizer_impl("foreach", torch.device(device)) == "foreach"


def test_apex_gets_the_same_arguments_and_goes_on_from_torchs_checkpoint(apex):
    apex()
    weights = [nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2)]
    ours, theirs = build_sgd([weights[0]], CFG), build_sgd_of("apex", [weights[1]], CFG)
    assert isinstance(theirs, StandInFusedSGD) and theirs.arguments == (0.1, 0.9, 0.0, 3e-5, False)
    train(ours, weights[0], 3)
    weights[1].data.copy_(weights[0])
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for optimizer, weight in zip((ours, theirs), weights, strict=True):
        train(optimizer, weight, 3)
    assert weights[0].equal(weights[1])


def test_weights_that_apex_would_never_update_are_refused(apex):
    apex()
    with pytest.raises(ValueError, match=r"would not update weights of torch\.bfloat16"):
        build_sgd_of("apex", [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1).bfloat16())], CFG)


def test_apex_without_its_extensions_is_refused_with_the_way_to_build_it(apex):
    apex(extensions=False)
    with pytest.raises(ValueError, match="APEX_CUDA_EXT=1"):
        build_sgd_of("apex", [nn.Parameter(torch.zeros(1))], CFG)


def test_apex_that_is_missing_or_another_package_of_that_name_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", None)
    with pytest.raises(ValueError, match="another project of that name"):
        build_sgd_of("apex", [nn.Parameter(torch.zeros(1))], CFG)
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))
    with pytest.raises(ValueError, match="another project of that name"):
        build_sgd_of("apex", [nn.Parameter(torch.zeros(1))], CFG)
    with pytest.raises(ValueError, match="needs CUDA"):
        choose_optimizer_impl("apex", torch.device("cpu"))
