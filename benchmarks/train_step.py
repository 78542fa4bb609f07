"""Images per second of ImageNet's training step, for number format x memory layout x compilation, on one device.

    python benchmarks/train_step.py [--batch_size 128] [--rounds 7] [--init_channels 48] [--layers 14]
    python benchmarks/train_step.py --quick              # a small network and few steps

The step is train_imagenet's own (auxiliary head, smoothing, clipping, SGD) on made-up images that are on the device
already. Variants are timed in turns; rates are medians over the rounds, ratios medians of the rounds' ratios to the
first variant. The last line is one JSON object.
"""

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from command import run
from machine import machine

from darts_hpc import strict_json
from darts_hpc.config.train_imagenet import ImageNetOptimConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd_of, choose_optimizer_impl
from darts_hpc.training.precision import Precision

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


def make_step(
    precision_name: str, layout: str, compiled: bool, args: argparse.Namespace, device: torch.device
) -> Callable[[], None]:
    """Return a function that takes one training step."""
    torch.manual_seed(0)
    network = DerivedNetwork("imagenet", args.init_channels, 1000, args.layers, True, load_genotype("DARTS")).to(device)
    network.train().to(memory_format=LAYOUTS[layout])
    weights, meter = list(network.parameters()), Meter(device)
    optimizer = build_sgd_of(choose_optimizer_impl("auto", device), weights, ImageNetOptimConfig())
    if compiled:
        network.compile()
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    labels = torch.randint(1000, (args.batch_size,), device=device)
    batch = Batch(images.to(memory_format=LAYOUTS[layout]), labels, labels)
    step_cfg = StepConfig(batch_size=args.batch_size, memory_format=LAYOUTS[layout])
    precision = Precision(precision_name, device)

    def step() -> None:
        train_step(network, optimizer, iter([batch]), step_cfg, precision, weights, meter)

    return step


def seconds_of(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Return the time of some steps, to the end of the device's work."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Time the variants in turns and print their rates."""
    parser = argparse.ArgumentParser(description="Time ImageNet's training step.")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--init_channels", type=int, default=48)
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="time compiled networks too; by default on a GPU"
    )
    parser.add_argument("--quick", action="store_true", help="a small network, few steps: under a minute")
    args = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if args.quick:
        args.batch_size, args.image_size, args.init_channels, args.layers = 2, 64, 16, 3
        args.rounds, args.steps = 3, 1
    on_gpu = device.type == "cuda"
    torch.backends.cudnn.benchmark = True
    precisions = ("fp32", "bf16", "fp16") if on_gpu else ("fp32", "bf16")
    compilations = (False, True) if (on_gpu if args.compile is None else args.compile) else (False,)
    steps: dict[str, Callable[[], None]] = {}
    for name, layout, compiled in itertools.product(precisions, LAYOUTS, compilations):
        steps[f"{name} {layout}{' compiled' if compiled else ''}"] = make_step(name, layout, compiled, args, device)
    for step in steps.values():
        seconds_of(step, 2, device)  # warm up, compile, choose algorithms
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.rounds):
        names = list(steps) if turn % 2 == 0 else list(reversed(steps))
        for name in names:
            gc.collect()
            times[name].append(seconds_of(steps[name], args.steps, device))
    first = times[next(iter(times))]
    rows = {
        name: {
            "images_per_s": round(args.steps * args.batch_size / statistics.median(own), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(first, own, strict=True)), 3),
        }
        for name, own in times.items()
    }
    print(f"{'variant':<32}{'images/s':>10}{'ratio':>8}")
    for name, row in rows.items():
        print(f"{name:<32}{row['images_per_s']:>10.1f}{row['ratio']:>8.2f}")
    facts = {name: getattr(args, name) for name in ("batch_size", "image_size", "init_channels", "layers", "rounds")}
    where = {"machine": machine(device, torch.get_num_threads()), "torch": torch.__version__}
    print(strict_json.dumps({"benchmark": "train_step", **where, **facts, "variants": rows}))


if __name__ == "__main__":
    run(main)
