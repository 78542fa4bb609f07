"""Compare what is predicted for a search step with the live bytes counted on real tensors while one runs.

    python benchmarks/memory_prediction.py [--quick]     # --quick: a small network, under a minute

On a GPU the peak of torch's allocator stands beside them. The last line is one JSON object.
"""

import argparse
import gc
import time
from dataclasses import replace
from typing import Any

import torch
from command import run
from machine import machine

from darts_hpc import strict_json
from darts_hpc.config.shared import SgdConfig
from darts_hpc.distributed.world import World
from darts_hpc.memory.live_bytes import LiveBytes
from darts_hpc.memory.plan import METHODS, describe
from darts_hpc.memory.predict import CUDA_BLOCK, Step
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.training.optim import build_sgd
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
    for differing, batch_size, init_channels in configurations(args.quick, on_gpu):
        step = replace(base, **differing)
        start = time.perf_counter()
        predicted = step.peak_bytes(batch_size, init_channels, CUDA_BLOCK if on_gpu else 1)
        seconds = time.perf_counter() - start
        counted, allocated = counted_bytes(step, batch_size, init_channels, world)
        truth = allocated or counted
        error = predicted / truth - 1
        print(
            f"{describe(step):55}{batch_size:6}{init_channels:4}{step.layers:6}{step.image_size:5}"
            f"{readable_bytes(predicted):>11}{readable_bytes(truth):>11}{error:8.2%}{seconds:6.1f}s",
            flush=True,
        )
        rows.append(
            {
                "step": describe(step),
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
    facts = {"benchmark": "memory_prediction", "machine": name, "torch": torch.__version__, "quick": args.quick}
    print(strict_json.dumps({**facts, "worst_error": round(worst, 4), "rows": rows}))


if __name__ == "__main__":
    run(main)
