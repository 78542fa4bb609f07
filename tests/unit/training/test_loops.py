"""The loops: their order, their data, what they leave untouched; processes and accumulated batches equal one batch."""

import copy
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from ranks import on_ranks
from torch import nn

from darts_hpc.commands.train_search import search_sources
from darts_hpc.config.shared import SgdConfig
from darts_hpc.config.train_search import SearchDataConfig
from darts_hpc.data.loading.batches import Batch, Cycle
from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_, synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import AnyDerivedNetwork, choose_network
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.run import heartbeat
from darts_hpc.run.metrics import Meter
from darts_hpc.run.performance import Window
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training import loops
from darts_hpc.training import search_step as search_step_module
from darts_hpc.training.data_parallel import average_gradients, start_alike
from darts_hpc.training.loops import StepConfig, evaluate, search_epoch, train_step
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.precision import Precision
from darts_hpc.training.search_step import weight_step

CPU = torch.device("cpu")
WORLD = World(CPU)


class FakeRun:
    """As much of a run as the loops use."""

    def __init__(self, epoch: int):
        self.epoch, self.step, self.global_step = epoch, 0, 0
        self.world, self.meter, self.window = WORLD, Meter(WORLD.device), Window(WORLD.device, 1)

    def steps(self, steps_per_epoch):
        for step in range(steps_per_epoch):
            self.global_step = self.epoch * steps_per_epoch + step
            yield step

    def report_step(self, optimizer, numbers, num_images, finite):
        assert finite and set(numbers) == {"grad_norm/weights", "grad_norm/alphas"} and num_images == 100


@pytest.fixture(scope="module")
def sources():
    data = load_dataset("digits", Path(), image_size=8)
    return search_sources(data, SearchDataConfig(dataset="digits", batch_size=100, train_portion=0.7), 0, WORLD)


def test_each_step_updates_alphas_first_and_cycles_their_half_without_replacement(sources, monkeypatch):
    weight_source, alpha_source, _ = sources
    assert (weight_source.steps_per_epoch, alpha_source.steps_per_epoch) == (10, 4)
    calls, alpha_keys = [], []
    architect = SimpleNamespace(
        step=lambda *args: calls.append("alpha") or torch.zeros(()),
        architecture=SimpleNamespace(mix_for_weights=lambda conditions: None, relaxation="softmax"),
    )
    monkeypatch.setattr(
        search_step_module,
        "weight_step",
        lambda *args, **kwargs: calls.append("weight") or (torch.zeros(()), torch.zeros(100, 10), torch.zeros(())),
    )
    draw = alpha_source.batch
    monkeypatch.setattr(alpha_source, "batch", lambda *at: alpha_keys.append(at) or draw(*at))
    alphas = Cycle(alpha_source)
    supernet: Any = SuperNet(2, 3, 10)
    step: Any = partial(search_step_module.search_step, supernet, architect, None, grad_clip=5.0, world=WORLD)  # pyright: ignore
    for epoch in range(2):
        search_epoch(supernet, step, None, weight_source, alphas, FakeRun(epoch))  # pyright: ignore
    assert calls == ["alpha", "weight"] * 20
    assert alpha_keys == [(cycle, step) for cycle in range(5) for step in range(4)]
    holding: Any = lambda train, valid, *_: step(train, valid, with_alphas=False)  # noqa: E731
    search_epoch(supernet, holding, None, weight_source, alphas, FakeRun(2), with_alphas=False)  # pyright: ignore
    assert calls == [*["alpha", "weight"] * 20, *["weight"] * 10] and len(alpha_keys) == 20


def test_the_first_batches_of_a_sample_have_all_classes_though_the_data_is_sorted_by_class():
    data = load_dataset("digits", Path(), image_size=8)
    order = data.train.labels.argsort(stable=True)
    data = replace(data, train=ImageSet(data.train.images[order], data.train.labels[order]))
    cfg = SearchDataConfig(dataset="digits", batch_size=100, train_portion=0.7)
    in_order, sampled = (search_sources(data, cfg, 0, WORLD, sampled=sampled)[2] for sampled in (False, True))
    assert len(in_order.batch(0, 0).labels.unique()) < 5
    assert len(sampled.batch(0, 0).labels.unique()) == 10
    every = [torch.cat([batch.keys for batch in source.batches(0)]).sort()[0] for source in (in_order, sampled)]
    assert torch.equal(*every)


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


def test_running_statistics_move_once_per_step_and_only_on_the_weights_batch():
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


def make_network() -> DerivedNetwork:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = DerivedNetwork("imagenet", 4, 5, 3, True, load_genotype("DARTS")).double()
    network.set_drop_path(0.3)
    return network.train()


def make_batches(number: int, size: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    return [
        Batch(
            torch.randn(size, 3, 32, 32, generator=generator, dtype=torch.float64),
            torch.randint(5, (size,), generator=generator),
            torch.randint(2**62, (size,), generator=generator),
        )
        for _ in range(number)
    ]


def part_of(batch: Batch, index: int, parts: int) -> Batch:
    return Batch(*(tensor.chunk(parts)[index] for tensor in batch))


def steps(
    network: nn.Module, batches: list[Batch], accumulate: int = 1, world: World = WORLD
) -> tuple[torch.Tensor, list[float]]:
    """Take SGD steps; return the last norm and the meter's totals."""
    weights, meter = list(network.parameters()), Meter(CPU)
    optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=3e-5)
    step_cfg = StepConfig(batch_size=len(batches[0].labels), accumulate=accumulate, label_smooth=0.1)
    source, norm = iter(batches), torch.zeros(())
    for _ in range(len(batches) // accumulate):
        _, norm = train_step(network, optimizer, source, step_cfg, Precision("fp32", CPU), weights, meter, world)
    return norm, meter.totals.tolist()


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def as_form(form: str, network: DerivedNetwork) -> AnyDerivedNetwork:
    chosen = choose_network(form, network, CPU)[0]
    chosen.set_drop_path(0.3)
    return chosen.train()


@pytest.mark.parametrize("form", ["plain", "fast"])
def test_processes_with_synchronised_batch_norm_equal_one_on_the_joined_batch(form):
    """With the auxiliary head, drop path, clipping and momentum, in float64: weights and statistics."""
    alone = as_form(form, make_network())
    norm, totals = steps(alone, make_batches(3, 8))

    def on_rank() -> tuple:
        network = as_form(form, make_network())
        with World.open("cpu") as world:
            if world.rank:
                torch.nn.init.zeros_(next(network.parameters()))
            batches = [part_of(batch, world.rank, world.size) for batch in make_batches(3, 8)]
            synchronise_batch_norm(network, world, once_differentiable=True)
            start_alike(network, world)
            return *steps(network, batches, world=world), dict(network.state_dict())

    ranks = on_ranks(2, on_rank)
    for rank_norm, _, state in ranks:
        assert max((state[k].double() - v.double()).abs().max() for k, v in alone.state_dict().items()) < 1e-11
        assert rank_norm == ranks[0][0] and rank_norm.item() == pytest.approx(norm.item(), rel=1e-10)
    assert [sum(column) for column in zip(*(rank[1] for rank in ranks), strict=True)] == pytest.approx(
        totals, rel=1e-10
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_accumulated_batches_equal_one_large_batch(processes):
    """With BatchNorm on its running statistics, by which images don't see each other; else batches differ by design."""

    def frozen() -> DerivedNetwork:
        network = make_network()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return network

    large, batches = frozen(), make_batches(2, 8)
    steps(large, batches)

    def on_rank() -> tuple[float, int]:
        network, exchanged, exchange = frozen(), [], dist.all_to_all_single
        dist.all_to_all_single = lambda *args: exchanged.append(0) or exchange(*args)
        with World.open("cpu") as world:
            # a global batch is cut as the loaders do it: batch by batch, and each over the ranks
            small = [part_of(part_of(b, i, 2), world.rank, world.size) for b in batches for i in range(2)]
            steps(network, small, accumulate=2, world=world)
        return difference(network, large), len(exchanged)

    for error, num_exchanges in on_ranks(processes, on_rank):
        assert error < 1e-12 and num_exchanges == (2 if processes > 1 else 0)  # once per step


def test_averaged_gradients_have_the_same_bits_in_any_order_and_the_strides_of_their_weights():
    def on_rank() -> tuple:
        with World.open("cpu") as world:
            torch.manual_seed(world.rank)
            shapes = [(4, 3, 3, 3), (5,), (2, 7), (6, 4, 1, 1)]
            weights = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
            weights[0].data = weights[0].data.contiguous(memory_format=torch.channels_last)
            own = [torch.randn(shape) for shape in shapes]
            found = []
            for order in ([0, 1, 2, 3], [3, 1, 0, 2], [1], [0]):
                for weight, gradient in zip(weights, own, strict=True):
                    weight.grad = gradient.clone()
                unused, unused.grad = weights[2], None
                average_gradients([weights[index] for index in order], world)
                assert unused.grad is None
                found.append({index: weights[index].grad for index in order if index != 2})
            strides = all(g.stride() == weights[i].stride() for means in found for i, g in means.items())
            return own, found, strides

    ranks = on_ranks(3, on_rank)
    assert all(strides for *_, strides in ranks)
    for _, found, _ in ranks:
        for means in found:
            for index, mean in means.items():
                in_order = (ranks[0][0][index] + ranks[1][0][index] + ranks[2][0][index]) / 3
                assert torch.equal(mean, in_order)


def test_ranks_of_a_search_step_a_channels_last_weight_by_its_own_gradient():
    """A fused optimizer goes through weight and gradient as they lie in memory, whatever their strides."""

    def on_rank() -> torch.Tensor:
        with World.open("cpu") as world:
            torch.manual_seed(0)
            supernet = SuperNet(4, 3, 5).to(memory_format=torch.channels_last)
            images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])  # the same on each rank
            optimizer = build_sgd(supernet.weights(), SgdConfig(), fused=True)
            weight_step(supernet, optimizer, (images, labels), grad_clip=5.0, world=world)
        return supernet.weights()[0].detach()  # the stem

    (alone,), ranks = on_ranks(1, on_rank), on_ranks(2, on_rank)
    for rank in ranks:
        torch.testing.assert_close(rank, alone, rtol=1e-5, atol=1e-7)


def test_running_statistics_are_averaged_with_the_spread_between_ranks_and_only_once():
    def on_rank() -> tuple:
        norm = nn.BatchNorm2d(2)
        mean, variance = norm.state_dict()["running_mean"], norm.state_dict()["running_var"]
        with World.open("cpu") as world:
            mean.fill_([1.0, 2.0, 6.0][world.rank])
            average_running_statistics_(norm, world)
            once = copy.deepcopy(norm.state_dict())
            average_running_statistics_(norm, world)
        same = all(once[name].equal(value) for name, value in norm.state_dict().items())
        return mean.tolist(), variance.tolist(), same

    for mean, variance, same in on_ranks(3, on_rank):
        assert mean == [3.0, 3.0] and variance == pytest.approx([1 + 14 / 3] * 2) and same


def test_a_compiled_network_is_not_compiled_anew_for_each_epochs_drop_path():
    from torch._dynamo.testing import CompileCounter

    network, counter = make_network().float(), CompileCounter()
    batch = Batch(*make_batches(1, 2)[0])._replace(images=torch.randn(2, 3, 32, 32))
    plain = copy.deepcopy(network)
    network.compile(backend=counter)
    seen = []
    for chance in (0.1, 0.2, 0.3, 0.4):
        network.set_drop_path(chance)
        plain.set_drop_path(chance)
        assert torch.allclose(network(batch.images, batch.keys)[0], plain(batch.images, batch.keys)[0], atol=1e-5)
        seen.append(counter.frame_count)
    assert seen[0] > 0 and seen[1:] == [seen[0]] * 3
    assert list(network.state_dict()) == list(plain.state_dict())


def test_a_long_batch_of_a_validation_is_logged_while_it_lasts(monkeypatch):
    lines, logged = [], threading.Event()
    monkeypatch.setattr(heartbeat.log, "info", lambda line, *args: (lines.append(line % args), logged.set()))
    monkeypatch.setattr(loops, "Heartbeat", partial(heartbeat.Heartbeat, seconds=0.05))
    batch = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), None

    def batches(epoch: int):
        yield batch
        assert logged.wait(240)
        yield batch

    source: Any = SimpleNamespace(device=CPU, batches=batches)
    run: Any = SimpleNamespace(world=WORLD, stop_if_asked=lambda: None)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    assert evaluate(network, source, run).compute(WORLD).keys() >= {"accuracy"}
    assert lines[0].startswith("batch 1 of the validation has taken")
