"""Check the model of scaling on real processes of this machine, over gloo.

Exchanges of other sizes than the gradient's are timed, and give the link its bandwidth and latency. In turns with them
one process steps alone, all step side by side without averaging, and all step as a run does. There are more processes
than cores, maybe: with `shared` a core's processes take turns, so one process's step is stretched by processes / cores;
with `side_by_side` the step of all without averaging is taken as it is measured.
"""

import os
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scaling_model import START_S, Fabric, Link
from torch import multiprocessing

from darts_hpc.config.shared import SgdConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd_of
from darts_hpc.training.precision import Precision

SIZES = (1 << 12, 1 << 18, 1 << 22, 1 << 25)
"""Bytes of the exchanges by which the link is measured."""
BATCH, SIDE = 2, 8
"""Few and small images: the gradient's exchange is to be a share of the step that shows."""


def check(ranks: int, rounds: int, layers: int = 20) -> dict[str, Any]:
    """Return what was measured with `ranks` processes, what the model says of their step, and its errors."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = multiprocessing.get_context("fork").SimpleQueue()
    multiprocessing.start_processes(
        _rank, (ranks, port, rounds, layers, results), nprocs=ranks, start_method="fork"
    )  # fmt: skip
    measured = results.get()
    link = fit_link({int(size): took for size, took in measured["exchange_s"].items()}, ranks)
    averaging = Fabric(link, link, ranks).exchange_s(measured["gradient_bytes"], ranks)
    cores = len(os.sched_getaffinity(0))
    predicted = {
        "side_by_side": measured["without_averaging_s"] + averaging,
        "shared": measured["alone_s"] * max(1, ranks / cores) + averaging,
    }
    return {
        "ranks": ranks, "cores": cores, "rounds": rounds, **measured,
        "bandwidth": link.bandwidth, "latency_s": link.latency_s, "predicted_exchange_s": averaging,
        "predicted_s": predicted,
        "errors": {name: seconds / measured["step_s"] - 1 for name, seconds in predicted.items()},
    }  # fmt: skip


def fit_link(seconds: dict[int, float], members: int) -> Link:
    """Return the link whose exchange takes these seconds for these bytes, by least squares of the relative errors."""
    hops = 2 * (members - 1)
    rows = torch.tensor([[hops / took, hops / members * size / took] for size, took in seconds.items()]).double()
    ones = torch.tensor([[1 - START_S / took] for took in seconds.values()]).double()
    latency, per_byte = torch.linalg.lstsq(rows, ones).solution.flatten().tolist()
    return Link(1 / max(per_byte, 1e-15), max(latency, 0.0))


def _rank(rank: int, ranks: int, port: int, rounds: int, layers: int, results: Any) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with World.open("cpu") as world:
        measured = _measure(world, rounds, layers)
    if rank == 0:
        results.put(measured)


def _measure(world: World, rounds: int, layers: int) -> dict[str, Any]:
    alone, _ = _training(world, layers, averaged=False)
    together, gradient_bytes = _training(world, layers, averaged=True)
    buffers = {str(size): torch.zeros(size // 4) for size in SIZES}
    steps: dict[str, Callable[[], object]] = {
        "alone_s": lambda: alone() if world.is_main else None,
        "without_averaging_s": alone,
        "step_s": together,
        **{size: lambda buffer=buffer: world.mean([buffer]) for size, buffer in buffers.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, rounds):  # the first warms up
        for name, step in steps.items():
            world.barrier()
            start = time.perf_counter()
            step()
            slowest = max(world.gather_objects(time.perf_counter() - start))
            if turn >= 0:
                seconds[name].append(slowest)
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    return {
        **{name: medians[name] for name in ("alone_s", "without_averaging_s", "step_s")},
        "exchange_s": {size: medians[size] for size in buffers},
        "gradient_bytes": gradient_bytes,
    }


def _training(world: World, layers: int, *, averaged: bool) -> tuple[Callable[[], object], int]:
    """Return a step of the network of CIFAR, and the bytes of its gradient."""
    torch.manual_seed(0)
    plain = DerivedNetwork("cifar", 36, 10, layers, False, load_genotype("DARTS"))
    network = choose_network("fast", plain, world.device)[0].to(memory_format=torch.channels_last).train()
    weights = list(network.parameters())
    batch = Batch(torch.randn(BATCH, 3, SIDE, SIDE), torch.zeros(BATCH, dtype=torch.int64), torch.arange(BATCH))
    precision, meter, step_cfg = Precision("fp32", world.device), Meter(world.device), StepConfig(batch_size=BATCH)
    optimizer = build_sgd_of("foreach", weights, SgdConfig())
    ranks = world if averaged else World(world.device)
    num_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    return lambda: train_step(network, optimizer, iter([batch]), step_cfg, precision, weights, meter, ranks), num_bytes
