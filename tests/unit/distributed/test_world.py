"""Collectives and averaged search steps, on one process and on two real ones (gloo)."""

import contextlib
import io
import textwrap

import pytest
import torch
from ranks import on_ranks

from darts_hpc.distributed.world import World


def said_on_ranks(script: str, processes: int = 2) -> str:
    """Run a script on several ranks; return what they print."""

    def run() -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(textwrap.dedent(script), {})
        return said.getvalue()

    return "".join(on_ranks(processes, run))


def test_one_process_is_a_world_whose_collectives_change_nothing():
    with World.open("cpu") as world:
        tensor = torch.arange(3.0)
        assert world.is_main and world.size == 1
        assert world.sum(tensor) is tensor and world.mean([tensor])[0] is tensor
        assert world.gather_objects("a") == ["a"] and world.broadcast_object(7) == 7


@pytest.mark.parametrize("device", ["tpu", "cudo:1", "mps"])
def test_unknown_device_is_refused(device):
    with pytest.raises(ValueError, match="choose auto, cpu, cuda or cuda:N"), World.open(device):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="use --device cpu"), World.open("cuda"):
        pass


@pytest.mark.parametrize(("flags", "index"), [({"gpu": 1}, 1), ({"device": "cuda:1"}, 1), ({"device": "cuda"}, 0)])
def test_one_process_works_on_the_gpu_it_was_told(flags, index, monkeypatch):
    used = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", used.append)
    with World.open(**flags) as world:
        assert world.device == torch.device("cuda", index) and used == [world.device]


def test_two_ranks_average_sum_and_broadcast():
    out = said_on_ranks(
        """
        import torch
        from darts_hpc.distributed.world import World
        with World.open("cpu") as world:
            mine = torch.tensor([1.0, 2.0]) * (world.rank + 1)
            means = world.mean([mine, mine[:1].view(1, 1) * 10])
            assert [m.tolist() for m in means] == [[1.5, 3.0], [[15.0]]]
            assert world.sum(mine).tolist() == [3.0, 6.0] and mine.tolist() == [world.rank + 1.0, 2.0 * world.rank + 2]
            grid = torch.arange(6.0).view(2, 3)
            assert world.sum(grid.T.contiguous().T if world.rank else grid).equal(2 * grid)  # whatever the strides
            world.broadcast_([mine])
            assert mine.tolist() == [1.0, 2.0]
            assert world.gather_objects(world.rank) == [0, 1] and world.broadcast_object(world.rank) == 0
            print("done")
        """,
    )
    assert out.count("done") == 2


def test_alphas_and_weights_stay_equal_on_two_ranks_with_different_batches():
    """Gradients, and the finite difference's vector, are global averages before use: else the ranks drift apart."""
    out = said_on_ranks(
        """
        import torch
        from darts_hpc.distributed.world import World
        from darts_hpc.training.search_step import weight_step
        from darts_hpc.models.supernet.plain import SuperNet
        from darts_hpc.search.architect import Architect
        torch.set_num_threads(1)
        with World.open("cpu") as world:
            for method in (None, "finite_difference", "exact"):
                torch.manual_seed(0)
                supernet = SuperNet(4, 3, 5).double()
                optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4)
                torch.manual_seed(world.rank)  # from here on the ranks differ: other alphas, other batches
                with torch.no_grad():
                    supernet.alphas_normal.normal_()
                architect = Architect(
                    supernet, learning_rate=0.1, weight_decay=1e-3, unrolled_method=method, world=world
                )
                for _ in range(2):
                    train, valid = [(torch.randn(4, 3, 8, 8).double(), torch.randint(5, (4,))) for _ in range(2)]
                    architect.step(train, valid, optimizer)
                    weight_step(supernet, optimizer, train, grad_clip=5.0, world=world)
                own = torch.cat([p.detach().flatten() for p in supernet.parameters()])
                first, second = world.gather_objects(own)
                assert torch.equal(first, second), method
            print("equal")
        """,
    )
    assert out.count("equal") == 2
