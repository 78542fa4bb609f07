"""A step that runs out of memory leaves everything bit for bit as it was."""

import pytest
import torch

from darts_hpc.config.shared import SgdConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.network import FastDerivedNetwork
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.run.metrics import Meter
from darts_hpc.search.architect import Architect
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.precision import Precision
from darts_hpc.training.rollback import Rollback, RolledBack, is_out_of_memory
from darts_hpc.training.search_step import search_step

WORLD = World(torch.device("cpu"))
REFUSAL = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate"


@pytest.fixture
def search():
    torch.manual_seed(0)
    supernet = SuperNet(2, 3, 5, num_nodes=2)
    optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9)
    architect = Architect(supernet, learning_rate=0.1, weight_decay=0.1, unrolled_method=None, world=WORLD)
    train, valid = ((torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])) for _ in range(2))

    def step() -> None:
        search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=WORLD)

    return supernet, architect, optimizer, step


def state(supernet, architect, optimizer) -> list[torch.Tensor]:
    tensors = [*supernet.state_dict().values()]
    for each in (architect.optimizer, optimizer):
        tensors += [value for held in each.state.values() for value in held.values() if torch.is_tensor(value)]
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("steps_before", [0, 1])
def test_out_of_memory_after_the_alphas_moved_rolls_the_step_back(search, steps_before, monkeypatch):
    supernet, architect, optimizer, step = search
    for _ in range(steps_before):
        step()
    before = state(supernet, architect, optimizer)
    rollback = Rollback(supernet, optimizer, architect)
    moved = []

    def refuse(*args, **kwargs):
        moved.append(state(supernet, architect, optimizer))
        raise RuntimeError(REFUSAL)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", refuse)  # after both passes, before the weights move
        with pytest.raises(RolledBack, match="can't allocate"), rollback:
            step()
    assert any(not torch.equal(a, b) for a, b in zip(before, moved[0], strict=False))
    after = state(supernet, architect, optimizer)
    assert len(after) == len(before) and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in supernet.parameters())
    with rollback:  # and the search can go on
        step()


@pytest.mark.parametrize("form", ["plain", "fast"])
def test_out_of_memory_in_a_training_step_leaves_network_momentum_and_meter(form, monkeypatch):
    torch.manual_seed(0)
    plain = DerivedNetwork("cifar", 2, 5, 3, True, GENOTYPES["DARTS_V1"])
    network = plain if form == "plain" else FastDerivedNetwork(plain)
    network.train()
    optimizer, meter = build_sgd(network.parameters(), SgdConfig()), Meter(WORLD.device)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    rollback = Rollback(network, optimizer, others=[meter.totals])

    def step() -> None:
        cfg = StepConfig(batch_size=4, accumulate=2)
        with rollback:
            precision = Precision("fp32", WORLD.device)
            train_step(
                network, optimizer, iter([batch, batch]), cfg, precision, list(network.parameters()), meter, WORLD
            )

    def kept() -> list[torch.Tensor]:
        momentum = [held["momentum_buffer"] for held in optimizer.state.values()]
        return [tensor.detach().clone() for tensor in (*network.state_dict().values(), *momentum, meter.totals)]

    step()
    before, moved = kept(), []

    def refuse(*args, **kwargs):
        moved.extend(kept())
        raise RuntimeError(REFUSAL)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", refuse)  # after both batches, before the weights move
        with pytest.raises(RolledBack, match="can't allocate"):
            step()
    assert moved[-1][3] == 16 and any(not torch.equal(a, b) for a, b in zip(before[:-1], moved, strict=False))
    assert all(torch.equal(a, b) for a, b in zip(before, kept(), strict=True))
    assert all(weight.grad is None for weight in network.parameters())
    step()


def test_out_of_memory_after_the_weights_moved_is_not_called_a_rollback(search):
    supernet, architect, optimizer, step = search
    with pytest.raises(RuntimeError, match="can't allocate"), Rollback(supernet, optimizer, architect):
        step()
        raise RuntimeError(REFUSAL)


def test_other_errors_pass(search):
    supernet, architect, optimizer, _ = search
    with pytest.raises(RuntimeError, match="shape"), Rollback(supernet, optimizer, architect):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError(REFUSAL), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (ValueError("out of memory"), False),
        (RuntimeError("shape mismatch"), False),
        (None, False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) == expected
