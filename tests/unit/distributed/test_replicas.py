"""A replica that differs in a single bit is named on every rank; equal ones pass."""

import pytest
import torch
from test_world import said_on_ranks

from darts_hpc.distributed.replicas import check_replicas, digest
from darts_hpc.distributed.world import World


def test_a_perturbed_rank_is_named_on_every_rank():
    out = said_on_ranks(
        """
        import torch
        from torch import nn
        from darts_hpc.distributed.replicas import check_replicas
        from darts_hpc.distributed.world import World
        with World.open("cpu") as world:
            torch.manual_seed(0)
            net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)).to(memory_format=torch.channels_last)
            state = dict(net.named_parameters())
            check_replicas(state, world)
            if world.rank == 1:
                net[1].weight.data.view(torch.int32)[1, 2] ^= 1
            try:
                check_replicas(state, world)
            except ValueError as error:
                assert "\\n" not in str(error)
                assert "rank 1 of 3 differs" in str(error) and "1.weight (and 0 more of 4)" in str(error), error
                print("named")
        """,
        processes=3,
    )
    assert out.count("named") == 3


def test_one_process_has_nothing_to_compare():
    check_replicas({"w": torch.zeros(2)}, World(torch.device("cpu")))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_every_single_bit_and_the_order_count(dtype):
    tensor = (torch.arange(1.0, 7).view(2, 3)).to(dtype)
    seen = {digest(tensor).item(), digest(tensor.flip(0)).item()}
    bits = tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
    for bit in range(8 * tensor.element_size() - 1):
        changed = bits.clone()
        changed[1, 1] ^= 1 << bit
        seen.add(digest(changed.view(dtype)).item())
    assert len(seen) == 2 + 8 * tensor.element_size() - 1
