"""What is predicted for a step, against what torch's CUDA allocator gave for a real one."""

import gc
from dataclasses import replace

import pytest
import torch

from darts_hpc.distributed.world import World
from darts_hpc.memory.predict import Step
from darts_hpc.memory.trace import CUDA_BLOCK
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_step import search_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
BATCH_SIZE = 32
STEP = Step(
    supernet="stacked",
    checkpoint_cells=False,
    unrolled_method=None,
    layers=5,
    num_classes=10,
    image_size=32,
    num_images=0,
    device="cuda",
)


@pytest.mark.parametrize("supernet", ["fused", "stacked", "plain"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("checkpoint_cells", [False, True])
@pytest.mark.parametrize("method", [None, "finite_difference", "exact"])
def test_the_most_that_was_allocated_is_the_tensors_predicted_and_what_is_planned_on_top(
    supernet, precision, checkpoint_cells, method, monkeypatch
):
    """Within 5 percent; on top comes cuDNN's own memory, which the stacked form's convolutions take."""
    step = replace(
        STEP, supernet=supernet, precision=precision, checkpoint_cells=checkpoint_cells, unrolled_method=method
    )
    world = World(torch.device("cuda", torch.cuda.current_device()))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)  # as a search has it
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    network = build_supernet(supernet, 16, step.layers, step.num_classes, checkpoint_cells=checkpoint_cells)
    network = network.to(world.device).to(memory_format=torch.channels_last)
    optimizer = build_sgd(network.weights(), step.optim, fused=True)
    architect = Architect(network, learning_rate=0.1, weight_decay=0.1, unrolled_method=method, world=world)
    train, valid = (
        (
            torch.randn(BATCH_SIZE, 3, 32, 32, device=world.device).to(memory_format=torch.channels_last),
            torch.randint(10, (BATCH_SIZE,), device=world.device),
        )
        for _ in range(2)
    )
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()  # the first step tries algorithms, with whatever memory there is
        search_step(network, architect, optimizer, train, valid, grad_clip=5.0, world=world, precision=precision)
    measured = torch.cuda.max_memory_allocated() - before
    assert 0.95 * step.peak_bytes(BATCH_SIZE, 16, CUDA_BLOCK) <= measured
    assert measured <= 1.05 * step.needed_bytes(BATCH_SIZE, 16, CUDA_BLOCK)
