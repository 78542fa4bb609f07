"""Compare what is predicted for a step with the live bytes counted on real tensors while one runs.

    python benchmarks/memory_prediction.py [--quick] [--trainings]     # --quick: a small network, under a minute

Of a search, or with --trainings of trainings on CIFAR and ImageNet.

On a GPU the peak of torch's allocator stands beside them. The last line is one JSON object.
"""

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from command import run
from machine import machine

from darts_hpc import strict_json
from darts_hpc.config.shared import SgdConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.world import World
from darts_hpc.memory.live_bytes import LiveBytes
from darts_hpc.memory.predict import METHODS, Step
from darts_hpc.memory.predict_training import TrainingStep
from darts_hpc.memory.trace import CUDA_BLOCK
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.network import FastDerivedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.run.metrics import Meter
from darts_hpc.search.architect import Architect
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd, build_sgd_of
from darts_hpc.training.precision import Precision
from darts_hpc.training.search_step import search_step
from darts_hpc.training.seeding import seed_everything
from darts_hpc.units import readable_bytes

WEIGHTS = SgdConfig()


def counted_bytes(step: Step, batch_size: int, init_channels: int, world: World) -> tuple[int, int | None]:
    """Run a real step; return the most bytes that lived at once, as counted and, on a GPU, as its allocator says."""

    def images(count: int) -> LabelledImages:
        pixels = torch.randn(count, 3, step.image_size, step.image_size, device=world.device)
        return pixels.contiguous(memory_format=torch.channels_last), torch.zeros(
            count, dtype=torch.int64, device=world.device
        )

    on_gpu = world.device.type == "cuda"
    gc.collect()
    before = torch.cuda.memory_allocated(world.device) if on_gpu else 0
    with LiveBytes() as live:
        supernet = build_supernet(
            step.supernet, init_channels, step.layers, step.num_classes, checkpoint_cells=step.checkpoint_cells
        )
        supernet = supernet.to(world.device).to(memory_format=torch.channels_last)
        optimizer = build_sgd(supernet.weights(), WEIGHTS, fused=True)
        architect = Architect(
            supernet, learning_rate=0.1, weight_decay=0.1, unrolled_method=step.unrolled_method, world=world
        )
        # momentum exists from the first step on, whatever its batch; on a GPU the second one tries algorithms
        for count in (2, batch_size, batch_size) if on_gpu else (2, batch_size):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(world.device)
            search_step(
                supernet, architect, optimizer, images(count), images(count),
                grad_clip=5.0, world=world, precision=step.precision,
            )  # fmt: skip
    allocated = torch.cuda.max_memory_allocated(world.device) - before if on_gpu else None
    return live.peak, allocated


def counted_training(step: TrainingStep, batch_size: int, init_channels: int, world: World) -> tuple[int, int | None]:
    """Run a real training step; return what counted_bytes does."""
    on_gpu, accumulate = world.device.type == "cuda", (step.images_per_update or batch_size) // batch_size

    def batches(count: int) -> Iterator[Batch]:
        for _ in range(accumulate):
            pixels = torch.randn(count, 3, step.image_size, step.image_size, device=world.device)
            zeros = torch.zeros(count, dtype=torch.int64, device=world.device)
            yield Batch(pixels.contiguous(memory_format=torch.channels_last), zeros, zeros)

    gc.collect()
    before = torch.cuda.memory_allocated(world.device) if on_gpu else 0
    with LiveBytes() as live:
        network = DerivedNetwork(
            step.stem, init_channels, step.num_classes, step.layers, step.auxiliary, step.genotype
        ).to(world.device)
        network.cells.checkpoint_cells = step.checkpoint_cells
        if step.network == "fast":
            network = FastDerivedNetwork(network)
        network = network.to(memory_format=torch.channels_last).train()
        network.set_drop_path(0.2 * step.drop_path)
        weights, meter = list(network.parameters()), Meter(world.device)
        optimizer = build_sgd_of("foreach", weights, step.optim)
        precision, cfg = Precision(step.precision, world.device), {"accumulate": accumulate, "label_smooth": 0.1}
        for count in (2, batch_size, batch_size) if on_gpu else (2, batch_size):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(world.device)
            train_step(
                network, optimizer, batches(count), StepConfig(batch_size=count, **cfg), precision, weights, meter
            )  # fmt: skip
    allocated = torch.cuda.max_memory_allocated(world.device) - before if on_gpu else None
    return live.peak, allocated


def trainings(quick: bool, device: str) -> list[tuple[TrainingStep, int, int]]:
    """Return the steps of trainings, batch size and channels."""
    rich: dict[str, Any] = {"auxiliary": True, "drop_path": True, "label_smooth": True, "device": device}
    rows: list[tuple[TrainingStep, int, int]] = []
    for stem, layers, side, classes, channels, batch_size in (
        ("cifar", 20, 32, 10, 36, 16),
        ("imagenet", 14, 224, 1000, 48, 4),
    ):
        base = TrainingStep(
            network="plain", checkpoint_cells=False, genotype=GENOTYPES["DARTS_V2"], stem=stem, layers=layers,
            num_classes=classes, image_size=side, **rich,
        )  # fmt: skip
        if quick:
            base, channels = replace(base, layers=5, image_size=side // 4), 8
        for network in ("plain", "fast"):
            rows += [(replace(base, network=network, checkpoint_cells=c), batch_size, channels) for c in (False, True)]
        rows.append((replace(base, network="fast", precision="bf16"), batch_size, channels))
        rows.append((replace(base, images_per_update=2 * batch_size), batch_size, channels))
    return rows


def configurations(quick: bool, on_gpu: bool) -> list[tuple[dict[str, Any], int, int]]:
    """Return what differs from the default step, batch size and channels."""
    large, small = (8, 4) if quick else (64, 16)
    channels = 4 if quick else 16
    rows: list[tuple[dict[str, Any], int, int]] = []
    for supernet in ("plain", "stacked", *["fused"] * on_gpu):
        for method in METHODS:
            batch_size = large if method is None or (supernet != "plain" and method != "exact") else small
            for cells in (False, True):
                differing = {"supernet": supernet, "unrolled_method": method, "checkpoint_cells": cells}
                rows.append((differing, batch_size, channels))
    rows += [
        ({"supernet": "stacked", "precision": "bf16", "checkpoint_cells": c}, large, channels) for c in (False, True)
    ]
    rows.append(({"supernet": "stacked", "image_size": 24 if not quick else 12}, small, channels))
    rows.append(({"supernet": "plain", "layers": 5}, small, channels // 2))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trainings", action="store_true")
    args = parser.parse_args()
    seed_everything(0, deterministic=False)  # cuDNN tries its algorithms, as in a search
    world = World(torch.device("cuda:0" if torch.cuda.is_available() else "cpu"))
    on_gpu = world.device.type == "cuda"
    base = Step(
        supernet="plain",
        checkpoint_cells=False,
        unrolled_method=None,
        layers=3 if args.quick else 8,
        num_classes=10,
        image_size=8 if args.quick else 32,
        num_images=0,
        device=world.device.type,
        optim=WEIGHTS,
    )
    rows = []
    print(
        f"{'step':55}{'batch':>6}{'C':>4}{'cells':>6}{'side':>5}{'predicted':>11}{'counted':>11}{'error':>8}{'took':>7}"
    )
    steps: Sequence[tuple[Step | TrainingStep, int, int]] = (
        trainings(args.quick, world.device.type)
        if args.trainings
        else [(replace(base, **changes), b, c) for changes, b, c in configurations(args.quick, on_gpu)]
    )
    for step, batch_size, init_channels in steps:
        start = time.perf_counter()
        predicted = step.peak_bytes(batch_size, init_channels, CUDA_BLOCK if on_gpu else 1)
        seconds = time.perf_counter() - start
        count = counted_training if isinstance(step, TrainingStep) else counted_bytes
        counted, allocated = count(step, batch_size, init_channels, world)  # pyright: ignore[reportArgumentType]
        truth = allocated or counted
        error = predicted / truth - 1
        print(
            f"{step.title:55}{batch_size:6}{init_channels:4}{step.layers:6}{step.image_size:5}"
            f"{readable_bytes(predicted):>11}{readable_bytes(truth):>11}{error:8.2%}{seconds:6.1f}s",
            flush=True,
        )
        rows.append(
            {
                "step": step.title
                + ", two batches per step" * (isinstance(step, TrainingStep) and step.images_per_update is not None),
                "batch_size": batch_size,
                "init_channels": init_channels,
                "layers": step.layers,
                "image_size": step.image_size,
                "predicted_bytes": predicted,
                "counted_bytes": counted,
                "allocated_bytes": allocated,
                "planning_seconds": round(seconds, 1),
            }
        )
    worst = max(abs(row["predicted_bytes"] / (row["allocated_bytes"] or row["counted_bytes"]) - 1) for row in rows)
    name = machine(world.device, torch.get_num_threads())
    facts = {
        "benchmark": "memory_prediction" + "_training" * args.trainings,
        "machine": name,
        "torch": torch.__version__,
        "quick": args.quick,
    }
    print(strict_json.dumps({**facts, "worst_error": round(worst, 4), "rows": rows}))


if __name__ == "__main__":
    run(main)
