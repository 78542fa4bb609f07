"""What is predicted for a step, against torch's own record of the allocations of a real one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from allocations import most_allocated
from torch.profiler import ProfilerActivity, profile

from darts_hpc.config.shared import SgdConfig
from darts_hpc.distributed.world import World
from darts_hpc.memory import predict
from darts_hpc.memory.live_bytes import LiveBytes
from darts_hpc.memory.predict import Step, _run
from darts_hpc.memory.trace import trace
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.models.supernet.fast.kernels import channel_sums, stage_convolutions, stage_pools
from darts_hpc.search.architect import Architect
from darts_hpc.space.spaces import SPACES
from darts_hpc.training.search_step import search_step

STEP = Step(
    supernet="plain",
    checkpoint_cells=False,
    unrolled_method=None,
    layers=3,
    num_classes=10,
    image_size=8,
    num_images=0,
    optim=SgdConfig(),
)
FEW = {"space": SPACES["s2"]}  # two operations an edge: a quarter of the time
CONFIGURATIONS = {  # what differs from STEP, channels, batch size; most are stacked, whose steps are short
    "plain": ({}, 4, 8),
    "plain, recomputed": ({**FEW, "checkpoint_cells": True}, 4, 8),
    "plain, finite differences": ({**FEW, "unrolled_method": "finite_difference"}, 4, 4),
    "plain, exact": ({**FEW, "unrolled_method": "exact"}, 2, 4),
    "stacked": ({"supernet": "stacked"}, 4, 8),
    "stacked, float64, other sizes": (
        {"supernet": "stacked", "layers": 4, "image_size": 9, "dtype": torch.float64},
        6,
        4,
    ),
    "stacked, bfloat16, recomputed": ({"supernet": "stacked", "precision": "bf16", "checkpoint_cells": True}, 4, 4),
    "stacked, finite differences": ({"supernet": "stacked", "unrolled_method": "finite_difference"}, 2, 16),
    "stacked, exact": ({"supernet": "stacked", "unrolled_method": "exact"}, 4, 4),
    "fused": ({"supernet": "fused"}, 4, 64),
    "fused, larger images": ({"supernet": "fused", "image_size": 16}, 16, 64),
    "fused, recomputed": ({"supernet": "fused", "checkpoint_cells": True}, 4, 64),
    "fused, bfloat16": ({"supernet": "fused", "precision": "bf16"}, 4, 64),
    "fused, finite differences": ({"supernet": "fused", "unrolled_method": "finite_difference"}, 8, 64),
    "fused, exact": ({"supernet": "fused", "unrolled_method": "exact"}, 4, 64),
}


def allocated_peak(step: Step, init_channels: int, batch_size: int) -> int:
    """Run two real steps; return the most bytes that torch's CPU allocator had given out after any operation."""
    world = World(torch.device("cpu"))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        take_two_steps(step, init_channels, batch_size, world)
    return most_allocated(recorded)


def take_two_steps(step: Step, init_channels: int, batch_size: int, world: World) -> None:
    space: dict[str, Any] = {"space": step.space} if step.supernet == "plain" else {}
    supernet = build_supernet(
        step.supernet, init_channels, step.layers, step.num_classes, checkpoint_cells=step.checkpoint_cells, **space
    )
    supernet = supernet.to(step.dtype).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(supernet.weights(), 0.1, momentum=0.9, weight_decay=3e-4)
    architect = Architect(
        supernet, learning_rate=0.1, weight_decay=0.1, unrolled_method=step.unrolled_method, world=world
    )
    size = step.image_size
    train, valid = (
        (
            torch.randn(batch_size, 3, size, size, dtype=step.dtype).to(memory_format=torch.channels_last),
            torch.randint(step.num_classes, (batch_size,)),
        )
        for _ in range(2)
    )
    for _ in range(2):
        search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=world, precision=step.precision)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prediction_is_within_5_percent_of_what_the_allocator_gave(name, monkeypatch):
    for caller in (channel_sums, stage_convolutions, stage_pools):  # the kernels need a GPU, and allocate nothing
        monkeypatch.setattr(caller, "launch", lambda *args, **meta: None)
    changes, init_channels, batch_size = CONFIGURATIONS[name]
    step = replace(STEP, **changes)
    assert step.peak_bytes(batch_size, init_channels) == pytest.approx(
        allocated_peak(step, init_channels, batch_size), rel=0.05
    )


FAMILY = {  # what differs from STEP, and what runs
    "partial channels, edge weights": ({"partial_channels": 2, "edge_norm": True}, predict._run),
    "auxiliary skip": ({"auxiliary_skip": True, "space": SPACES["s3"]}, predict._run),
    "noise, drop path": ({"space": SPACES["s4"], "drop_path": True}, predict._run),
    "drawn operations": ({"relaxation": "gumbel", "space": SPACES["s3"]}, predict._run),
    "dirichlet": ({"relaxation": "dirichlet", "space": SPACES["s3"]}, predict._run),
    "adversary": ({"perturb": "adversarial", "space": SPACES["s2"]}, predict._run),
    "eigenvalue": ({"eigenvalue": True, "space": SPACES["s1"]}, predict._measure),
}


@pytest.mark.parametrize("name", FAMILY)
def test_every_member_of_the_family_is_predicted_within_5_percent(name):
    changes, work = FAMILY[name]
    step = replace(STEP, **changes)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work(step, step.build(4), 8, torch.device("cpu"))
    planned = step.eigenvalue_bytes(8, 4) if step.eigenvalue else step.peak_bytes(8, 4)
    assert planned == pytest.approx(most_allocated(recorded), rel=0.05)


@pytest.mark.parametrize("supernet", ["plain", "stacked"])
def test_one_trace_serves_every_batch_size_and_every_number_of_channels(supernet):
    step = replace(STEP, supernet=supernet)
    for init_channels, batch_size in ((2, 3), (8, 10)):
        assert step.peak_bytes(batch_size, init_channels) == trace(step, _run, init_channels, batch_size).peak


def test_the_data_set_stays_on_the_device():
    more = replace(STEP, num_images=1000)
    assert more.peak_bytes(8, 4) - STEP.peak_bytes(8, 4) >= 1000 * 3 * 8 * 8


def test_synchronised_batch_norm_is_predicted():
    assert replace(STEP, sync_bn=True).peak_bytes(8, 4) > 1.1 * STEP.peak_bytes(8, 4)


def test_blocks_of_an_allocator_are_counted_whole():
    assert STEP.peak_bytes(8, 4, block=512) > STEP.peak_bytes(8, 4)


def test_live_bytes_fall_when_the_last_view_goes_and_the_peak_stays():
    with LiveBytes() as live:
        a = torch.empty(1000, dtype=torch.uint8)
        view = a.view(10, 100)[3]
        b = torch.empty(500, dtype=torch.uint8)
        del a, b
        assert live.bytes == 1000
        del view
    assert (live.bytes, live.peak) == (0, 1500) and live.events == [1000, 500, -500, -1000]
