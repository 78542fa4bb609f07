"""The loops: their order, their data, and what they leave untouched."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from darts_hpc.config.train_search import SearchDataConfig
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.run.metrics import Meter
from darts_hpc.train_search import search_sources
from darts_hpc.training import search_step as search_step_module
from darts_hpc.training.loops import evaluate, search_epoch
from darts_hpc.training.search_step import weight_step

WORLD = World(torch.device("cpu"))


class FakeRun:
    """As much of a run as the loops use."""

    def __init__(self, epoch: int):
        self.epoch, self.world, self.meter, self.global_step = epoch, WORLD, Meter(WORLD.device), 0

    def steps(self, steps_per_epoch):
        for step in range(steps_per_epoch):
            self.global_step = self.epoch * steps_per_epoch + step
            yield step

    def report_step(self, optimizer, numbers, num_images):
        assert set(numbers) == {"grad_norm/weights", "grad_norm/alphas"} and num_images == 100


@pytest.fixture(scope="module")
def sources():
    data = load_dataset("digits", Path(), image_size=8)
    return search_sources(data, SearchDataConfig(dataset="digits", batch_size=100, train_portion=0.7), 0, WORLD)


def test_each_step_updates_alphas_first_and_cycles_their_half_without_replacement(sources, monkeypatch):
    weight_source, alpha_source, _ = sources
    assert (weight_source.steps_per_epoch, alpha_source.steps_per_epoch) == (10, 4)
    calls, alpha_keys = [], []
    architect = SimpleNamespace(step=lambda train, valid, optimizer: calls.append("alpha") or torch.zeros(()))
    monkeypatch.setattr(
        search_step_module,
        "weight_step",
        lambda *args, **kwargs: calls.append("weight") or (torch.zeros(()), torch.zeros(100, 10), torch.zeros(())),
    )
    draw = alpha_source.batch
    monkeypatch.setattr(alpha_source, "batch", lambda *at: alpha_keys.append(at) or draw(*at))
    for epoch in range(2):
        supernet: Any = SuperNet(2, 3, 10)
        step = partial(search_step_module.search_step, supernet, architect, None, grad_clip=5.0, world=WORLD)  # pyright: ignore
        search_epoch(supernet, step, None, weight_source, alpha_source, FakeRun(epoch))  # pyright: ignore
    assert calls == ["alpha", "weight"] * 20
    assert alpha_keys == [(cycle, step) for cycle in range(5) for step in range(4)]


def test_weights_and_alphas_train_on_disjoint_halves_and_validation_is_not_augmented(sources):
    weight_source, alpha_source, valid_source = sources
    weight_ids, alpha_ids = (set(source.order.sample_ids.tolist()) for source in (weight_source, alpha_source))
    assert not weight_ids & alpha_ids and len(weight_ids | alpha_ids) == 1437
    assert valid_source.order.sample_ids.tolist() == alpha_source.order.sample_ids.tolist()
    assert valid_source.augmentation is None and alpha_source.augmentation is not None
    assert weight_source.augmentation is not None


def test_a_weight_step_is_clipped_sgd_and_leaves_the_alphas_alone():
    torch.manual_seed(0)
    supernet, reference = SuperNet(4, 3, 5).double(), SuperNet(4, 3, 5).double()
    reference.load_state_dict(supernet.state_dict())
    images, labels = torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3])
    weight_step(supernet, torch.optim.SGD(supernet.weights(), 0.1), (images, labels), grad_clip=0.5, world=WORLD)

    F.cross_entropy(reference(images), labels).backward()
    norm = torch.cat([w.grad.flatten() for w in reference.weights()]).norm()  # pyright: ignore
    assert norm > 0.5
    for ours, theirs in zip(supernet.weights(), reference.weights(), strict=True):
        expected = theirs - 0.1 * theirs.grad * 0.5 / (norm + 1e-6)  # pyright: ignore[reportOperatorIssue]
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-15)
    assert all(torch.equal(a, b) for a, b in zip(supernet.alphas(), reference.alphas(), strict=True))
    assert all(alpha.grad is None for alpha in supernet.alphas())


def test_running_statistics_move_once_a_step_and_only_on_the_weights_batch():
    supernet, reference = SuperNet(4, 3, 5), SuperNet(4, 3, 5)
    reference.load_state_dict(supernet.state_dict())
    batch = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    weight_step(supernet, torch.optim.SGD(supernet.weights(), 0.1), batch, grad_clip=5.0, world=WORLD)
    reference(batch[0])
    ours, theirs = dict(supernet.named_buffers()), dict(reference.named_buffers())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert supernet.stem[1].num_batches_tracked == 1


def test_evaluation_counts_every_image_once_and_changes_nothing(sources):
    valid_source = sources[2]
    supernet = SuperNet(2, 3, 10)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    numbers = evaluate(supernet, valid_source).compute(WORLD)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())

    everything = [valid_source.batch(0, step) for step in range(valid_source.steps_per_epoch)]
    images, labels = torch.cat([b.images for b in everything]), torch.cat([b.labels for b in everything])
    assert len(labels) == valid_source.num_samples
    with torch.no_grad():
        logits = supernet(images)
    assert numbers["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert numbers["accuracy"] == pytest.approx(100 * (logits.argmax(1) == labels).double().mean().item())
