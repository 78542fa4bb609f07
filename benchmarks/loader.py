"""Compare ImageNet's loaders, and report whether the loader or the model is the bottleneck.

    python benchmarks/loader.py --data DIR [--threads 2] [--batch_size 32] [--rounds 5]
    python benchmarks/loader.py --quick                  # on JPEGs made here

All loaders take the same images with the same boxes, flips and colour factors, on the same number of threads (DALI's)
or worker processes (torchvision's), and end in the same normalised batches. They are timed in turns, epoch by epoch;
rates are medians, and a ratio is the median of the rounds' ratios. The last line is one JSON object.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from command import run, whole_number
from machine import machine
from PIL import Image

from darts_hpc import strict_json
from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.manifest import COLUMNS, Split
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.imagenet.read.dali import DaliLoader
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.torchvision_loader import TorchvisionLoader
from darts_hpc.data.loading.batches import Batch, Loader
from darts_hpc.data.loading.order import SampleOrder
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.space.genotypes import load_genotype

SEED = 0
MOST_ON_CPU = 8
"""Images per training step on a CPU, where a whole batch takes minutes."""


def make_jpegs(root: Path, count: int) -> Path:
    """Make JPEGs of ImageNet's usual 500 x 375 pixels and 100 KB."""
    generator = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(coarse, np.int16) + generator.integers(-28, 29, (375, 500, 3), dtype=np.int16)
        path = root / ("val" if i % 8 == 7 else "train") / "ab"[i % 2 ^ (i // 8) % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)
    return root


def repeated(part: Split, count: int) -> Split:
    """Return a part of `count` images: those of a small one over and over."""
    index = np.arange(count) % len(part)
    keys = None if part.keys is None else type(part.keys).of(part.keys[int(i)] for i in index)
    return dataclasses.replace(part, keys=keys, **{name: getattr(part, name)[index] for name in COLUMNS})


def open_loaders(root: Path, part: Split, args: argparse.Namespace, device: torch.device) -> dict[str, Loader]:
    """Open the loaders to compare, by name."""
    order = SampleOrder(torch.arange(len(part)), batch_size=args.batch_size, seed=SEED, shuffle=True, drop_last=True)

    def samples() -> Samples:
        return Samples(
            root=root, part=part, order=order, quarantine=Quarantine(root / "none", 0), seed=SEED, device=device,
            augment=True, image_size=224, resize=256,
        )  # fmt: skip

    dali: dict[str, Any] = {"num_threads": args.threads, "prefetch": 2}
    loaders: dict[str, Loader] = {
        "torchvision": TorchvisionLoader(samples(), num_workers=args.threads, prefetch=2),
        "dali": DaliLoader(samples(), exact_jitter=False, decode_on_gpu=False, **dali),
        "dali_exact": DaliLoader(samples(), exact_jitter=True, decode_on_gpu=False, **dali),
    }
    if device.type == "cuda":
        loaders["dali_gpu"] = DaliLoader(samples(), exact_jitter=False, decode_on_gpu=True, **dali)
        loaders["dali_gpu_exact"] = DaliLoader(samples(), exact_jitter=True, decode_on_gpu=True, **dali)
    return loaders


def epoch_rate(loader: Loader, epoch: int) -> float:
    """Return images/s over one whole epoch."""
    start, count = time.perf_counter(), 0
    for batch in loader.batches(epoch):
        count += len(batch.labels)
    if loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)
    return count / (time.perf_counter() - start)


def train(network: DerivedNetwork, batches: Iterator[Batch], steps: int) -> tuple[float, float]:
    """Train some steps; return images/s and the share of the time that was spent waiting for batches."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    device, waiting, count = next(network.parameters()).device, 0.0, 0
    limit = MOST_ON_CPU if device.type == "cpu" else None
    start = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        images, labels, keys = (part[:limit] for part in next(batches))
        waiting += time.perf_counter() - asked
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits, _ = network(images, keys)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += len(labels)
    seconds = time.perf_counter() - start
    return count / seconds, waiting / seconds


def replay(batch: Batch) -> Iterator[Batch]:
    """Yield one batch for ever: training without a loader."""
    while True:
        yield batch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of train/CLASS/* and val/CLASS/*, or of tar shards")
    parser.add_argument(
        "--threads", type=whole_number, default=2, help="threads of DALI, worker processes of torchvision"
    )
    parser.add_argument("--batch_size", type=whole_number, default=32)
    parser.add_argument("--rounds", type=whole_number, default=5)
    parser.add_argument("--images", type=whole_number, default=2048, help="images per epoch; a smaller set is repeated")
    parser.add_argument("--train_steps", type=whole_number, default=3)
    parser.add_argument("--quick", action="store_true", help="under a minute, on JPEGs made here")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.images, args.batch_size, args.train_steps = 2, 192, 16, 1
    if args.data is None and not args.quick:
        parser.error("--data is required without --quick")
    torch.set_num_threads(1)  # as under torchrun: more would wait for each other by spinning, on the loaders' cores
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = args.data or make_jpegs(Path(folder), 64)
        manifest = build_manifest(root, args.threads)
        part = repeated(manifest.train, args.images)
        loaders = open_loaders(root, part, args, device)
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for epoch in range(args.rounds + 1):
            for name, loader in loaders.items():
                rate = epoch_rate(loader, epoch)
                if epoch:  # the first warms up: processes start, files come into memory
                    rates[name].append(rate)
                    print(f"round {epoch} {name:15} {rate:8.1f} images/s", flush=True)
        torch.set_num_threads(args.threads)
        network = DerivedNetwork("imagenet", 48, 1000, 14, False, load_genotype("DARTS")).to(device).train()
        network = network.to(memory_format=torch.channels_last)
        best = loaders["dali_gpu" if device.type == "cuda" else "dali"]
        train(network, replay(next(best.batches(0))), 1)
        alone, _ = train(network, replay(next(best.batches(0))), args.train_steps)
        together, waiting = train(network, best.batches(0), args.train_steps)
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratios = [dali / torchvision for dali, torchvision in zip(rates["dali"], rates["torchvision"], strict=True)]
    bottleneck = "loader" if max(medians.values()) < alone else "model"
    print(f"\n{'loader':16}{'images/s':>10}{'of torchvision':>16}")
    for name, rate in medians.items():
        print(f"{name:16}{rate:10.1f}{rate / medians['torchvision']:15.2f}x")
    print(
        f"DARTS' network trains {alone:.1f} images/s on batches in memory, {together:.1f} with the loader, "
        f"waiting {waiting:.1%} of the time: the {bottleneck} is the bottleneck"
    )
    result = {
        "benchmark": "loader",
        "dali_vs_torchvision": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "images_per_s": medians,
        "model_images_per_s": round(alone, 2),
        "waiting_share": round(waiting, 4),
        "bottleneck": bottleneck,
        "images": len(manifest.train),
        "mean_kilobytes": round(float(manifest.train.sizes.mean()) / 1e3, 1),
        "batch_size": args.batch_size,
        "threads": args.threads,
        "machine": machine(device, args.threads),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pillow")}
        | {"dali": loaders["dali"]._dali.__version__},  # pyright: ignore[reportAttributeAccessIssue]
        "quick": args.quick,
    }
    print(strict_json.dumps(result))


if __name__ == "__main__":
    run(main)
