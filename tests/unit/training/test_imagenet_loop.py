"""The training step: two processes equal one on the joined batch, accumulated batches equal a large one."""

import copy

import pytest
import torch
from ranks import on_ranks
from torch import nn

from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_, synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.data_parallel import data_parallel
from darts_hpc.training.imagenet_loop import StepConfig, train_step
from darts_hpc.training.precision import Precision

CPU = torch.device("cpu")


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


def steps(network: nn.Module, batches: list[Batch], accumulate: int = 1) -> tuple[torch.Tensor, list[float]]:
    """Take SGD steps; return the last norm and the meter's totals."""
    weights, meter = list(network.parameters()), Meter(CPU)
    optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=3e-5)
    recipe = StepConfig(batch_size=len(batches[0].labels), accumulate=accumulate)
    source, norm = iter(batches), torch.zeros(())
    for _ in range(len(batches) // accumulate):
        norm = train_step(network, optimizer, source, recipe, Precision("fp32", CPU), weights, meter)
    return norm, meter.totals.tolist()


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def test_two_processes_with_synchronised_batch_norm_equal_one_on_the_joined_batch():
    """Through DDP, with the auxiliary head, drop path, clipping and momentum, in float64: weights and statistics."""
    alone = make_network()
    norm, totals = steps(alone, make_batches(3, 8))

    def on_rank() -> tuple:
        network = make_network()
        with World.open("cpu") as world:
            batches = [part_of(batch, world.rank, 2) for batch in make_batches(3, 8)]
            synchronise_batch_norm(network, world, once_differentiable=True)
            before = copy.deepcopy(network)
            parallel = data_parallel(network, batches[0], Precision("fp32", CPU), world)
            assert difference(network, before) == 0  # the throw-away steps leave no trace
            return *steps(parallel, batches), network.state_dict()

    (norm0, totals0, state0), (norm1, totals1, state1) = on_ranks(2, on_rank)
    for state in (state0, state1):
        assert max((state[k].double() - v.double()).abs().max() for k, v in alone.state_dict().items()) < 1e-11
    assert norm0 == norm1 and norm0.item() == pytest.approx(norm.item(), rel=1e-10)
    assert [a + b for a, b in zip(totals0, totals1, strict=True)] == pytest.approx(totals, rel=1e-10)


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

    def on_rank() -> float:
        network = frozen()
        with World.open("cpu") as world:
            # a global batch is cut as the loaders do it: batch by batch, and each over the ranks
            small = [part_of(part_of(b, i, 2), world.rank, world.size) for b in batches for i in range(2)]
            parallel: nn.Module = network
            if world.size > 1:
                network.train()
                parallel = data_parallel(network, small[0], Precision("fp32", CPU), world)
                [m.eval() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
            steps(parallel, small, accumulate=2)
        return difference(network, large)

    assert max(on_ranks(processes, on_rank)) < 1e-12


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
