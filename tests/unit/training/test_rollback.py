"""A step that runs out of memory leaves everything bit for bit as it was."""

import pytest
import torch

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.architect import Architect
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
    rollback = Rollback(supernet, architect, optimizer)
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


def test_out_of_memory_after_the_weights_moved_is_not_called_a_rollback(search):
    supernet, architect, optimizer, step = search
    with pytest.raises(RuntimeError, match="can't allocate"), Rollback(supernet, architect, optimizer):
        step()
        raise RuntimeError(REFUSAL)


def test_other_errors_pass(search):
    supernet, architect, optimizer, _ = search
    with pytest.raises(RuntimeError, match="shape"), Rollback(supernet, architect, optimizer):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError(REFUSAL), True),
        (RuntimeError("std::bad_alloc"), True),
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
