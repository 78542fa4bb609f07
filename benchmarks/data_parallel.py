"""What the exchange of gradients adds to a training step, with processes on the CPUs of this machine (gloo).

    python benchmarks/data_parallel.py [--processes 2] [--rounds 5]

In turns a step is taken with the exchange, and without it by the same processes at the same time, so that they share
the CPUs alike. Seconds are medians of rank 0, which waits for the slowest. The last line is one JSON object.
"""

import argparse
import os
import statistics
import time

import torch
import torch.multiprocessing as mp
from command import run, whole_number
from machine import machine

from darts_hpc import strict_json
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.optimizers import SGD
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.data_parallel import start_alike
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.precision import Precision

CHANNELS, LAYERS, BATCH_SIZE, PORT = 16, 8, 16, "29533"
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=whole_number, default=2)
    parser.add_argument("--rounds", type=whole_number, default=5)
    args = parser.parse_args()
    results = mp.get_context("spawn").SimpleQueue()
    mp.start_processes(_rank, (args.processes, args.rounds, results), args.processes, start_method="spawn")  # pyright: ignore
    found = {form: results.get() for form in ("plain", "fast")}
    print(
        f"CIFAR network, {CHANNELS} channels, {LAYERS} cells, batch {BATCH_SIZE} on each of {args.processes} processes"
    )
    print("form    step        without the exchange    its share    bytes of gradients")
    for form, numbers in found.items():
        print(
            f"{form:7} {numbers['step_s']:.3f} s     {numbers['compute_s']:.3f} s"
            f"                 {numbers['share']:6.1%}       {numbers['gradient_bytes']:,}"
        )
    print(strict_json.dumps({"machine": machine(CPU, args.processes), "processes": args.processes, **found}))


def _rank(rank: int, processes: int, rounds: int, results: "mp.SimpleQueue") -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}
    torch.set_num_threads(1)
    with World.open("cpu") as world:
        for form in ("plain", "fast"):
            numbers = time_steps(form, rounds, world)
            if world.is_main:
                results.put(numbers)


def time_steps(form: str, rounds: int, world: World) -> dict[str, float]:
    """Return the medians of seconds per step with and without the exchange, its share, and the gradients' bytes."""
    torch.manual_seed(0)
    plain = DerivedNetwork("cifar", CHANNELS, 10, LAYERS, True, load_genotype("DARTS"))
    network = choose_network(form, plain, CPU)[0].to(memory_format=torch.channels_last).train()
    start_alike(network, world)
    weights, meter, precision = list(network.parameters()), Meter(CPU), Precision("fp32", CPU)
    optimizer = SGD(weights, 0.01, momentum=0.9, foreach=True)
    labels, step_cfg = torch.arange(BATCH_SIZE) % 10, StepConfig(batch_size=BATCH_SIZE)
    batch = Batch(torch.randn(BATCH_SIZE, 3, 32, 32), labels, labels)
    seconds: dict[str, list[float]] = {"step": [], "compute": []}
    for number in range(rounds + 1):
        for name, among in (("step", world), ("compute", World(CPU))):
            world.barrier()
            start = time.perf_counter()
            train_step(network, optimizer, iter([batch]), step_cfg, precision, weights, meter, among)
            world.barrier()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    step, compute = (statistics.median(seconds[name]) for name in ("step", "compute"))
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    return {"step_s": step, "compute_s": compute, "share": step / compute - 1, "gradient_bytes": size}


if __name__ == "__main__":
    run(main)
