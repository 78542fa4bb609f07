"""The search step on a GPU: a replayed graph is the eager step, and nothing in a step waits for the device."""

import pytest
import torch

from darts_hpc.config.train_search import SearchOptimConfig, SearchRuntimeConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.training.cuda_graph import WARM_UP_STEPS, GraphedStep
from darts_hpc.training.optim import MomentumByName, build_sgd, set_learning_rate
from darts_hpc.training.search_step import build_search_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
STEPS = WARM_UP_STEPS + 4


WORLD = World(torch.device("cuda:0"))


def batch(seed: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 16, 16, generator=draw)
    return images.cuda(), torch.randint(5, (size,), generator=draw).cuda()


def search(unrolled_method: str | None, kind: str = "fused", **speed):
    world = WORLD
    torch.manual_seed(0)
    supernet = build_supernet(kind, 8, 4, 5).cuda()
    optimizer = build_sgd(supernet.weights(), SearchOptimConfig(), fused=True)
    architect = Architect(supernet, learning_rate=3e-3, weight_decay=1e-3, unrolled_method=unrolled_method, world=world)
    cfg = SearchRuntimeConfig(**{"tf32": False, **speed})
    step = build_search_step(supernet, architect, optimizer, grad_clip=5.0, world=world, cfg=cfg)
    return supernet, optimizer, step


@pytest.mark.parametrize("kind", ["fused", "stacked", "plain"])
@pytest.mark.parametrize("unrolled_method", [None, "finite_difference", "exact"])
def test_replayed_steps_equal_eager_ones_also_after_a_new_learning_rate(unrolled_method, kind, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    runs = []
    for cuda_graph in (False, True):
        supernet, optimizer, step = search(unrolled_method, kind, cuda_graph=cuda_graph)
        losses = []
        for index in range(STEPS):
            set_learning_rate(optimizer, 0.025 / (1 + index))
            losses.append(step(batch(2 * index), batch(2 * index + 1)).loss.clone())
        assert ("one CUDA graph from here on" in caplog.text) == cuda_graph
        momentum = MomentumByName(optimizer, supernet).state_dict()["momentum_buffer"]
        state = {name: tensor.double() for name, tensor in supernet.state_dict().items()}
        runs.append((torch.stack(losses), state, momentum))
    (eager, eager_state, eager_momentum), (graphed, graphed_state, graphed_momentum) = runs
    torch.testing.assert_close(graphed, eager, rtol=1e-3, atol=1e-4)
    for name in eager_state:
        torch.testing.assert_close(graphed_state[name], eager_state[name], rtol=1e-2, atol=1e-3, msg=name)
    for name in eager_momentum:
        torch.testing.assert_close(graphed_momentum[name], eager_momentum[name], rtol=5e-2, atol=1e-3, msg=name)


def test_a_new_weight_decay_reaches_the_steps_after_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    weights = []
    for cuda_graph in (False, True):
        supernet, optimizer, step = search(None, "plain", cuda_graph=cuda_graph)
        for index in range(2 * STEPS):
            optimizer.param_groups[0]["weight_decay"] = 3e-4 if index < STEPS else 1.0
            step(batch(2 * index), batch(2 * index + 1))
        weights.append(torch.stack([weight.norm() for weight in supernet.weights()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("unrolled_method", [None, "finite_difference", "exact"])
def test_no_step_waits_for_the_device(unrolled_method):
    _, _, step = search(unrolled_method, cuda_graph=False)
    batches = [batch(seed) for seed in range(4)]
    step(batches[0], batches[1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batches[2], batches[3])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_batch_of_another_size_runs_eagerly(caplog):
    _, _, step = search(None)
    for index in range(STEPS):
        step(batch(2 * index), batch(2 * index + 1))
    numbers = step(batch(0, 6), batch(1, 6))
    assert numbers.logits.shape == (6, 5) and "without the CUDA graph" in caplog.text


def test_a_step_that_cannot_be_captured_runs_eagerly_and_the_reason_is_told(caplog):
    _, _, step = search(None, cuda_graph=False)
    graphed = GraphedStep(
        lambda train, valid: (step(train, valid).loss.item(), step(train, valid))[1], WORLD, "search step"
    )
    stream = torch.cuda.current_stream()
    losses = [graphed(batch(0), batch(1)).loss.item() for _ in range(STEPS)]
    assert losses[-1] < losses[0] and torch.cuda.current_stream() == stream
    assert "no CUDA graph" in caplog.text and "previous error" not in caplog.text


def test_bfloat16_steps_learn():
    _, _, step = search("finite_difference", precision="bf16")
    losses = [step(batch(0), batch(1)).loss.item() for _ in range(30)]
    assert losses[-1] < losses[0]


def test_compiled_cells_are_captured_and_learn(caplog):
    caplog.set_level("INFO")
    _, _, step = search("finite_difference", "stacked", compile=True)
    losses = [step(batch(0), batch(1)).loss.item() for _ in range(30)]
    assert losses[-1] < losses[0] and "one CUDA graph from here on" in caplog.text
    assert "going on without" not in caplog.text
