"""Time one search step of every preset against plain first-order DARTS, and compare their memory.

    python benchmarks/search_family.py [--quick] [--threads 2] [--repeats 5] [--keep FILE]

First order throughout, on the CPU, at the presets' methods and spaces and one size of network and batch. Steps are
interleaved, times are medians; the smaller the batch, the more a step is bound by its calls, which partial channels
don't save. time, memory and peak are relative to plain DARTS: of a step; of the bytes saved for the weight step's
backward; of the peak predicted for a whole step, without images. The last line is one JSON object, preset -> these.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from command import new_file, run, whole_number
from machine import machine
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan import plan_search
from darts_hpc.search.schedule import epoch_conditions
from darts_hpc.space.spaces import SPACES
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_run import build_architect, build_search_supernet
from darts_hpc.training.search_step import build_search_step

CLASSES = 10
WORLD = World(torch.device("cpu"))
FOLDER = Path(__file__).parent.parent / "configs" / "search"
PRESETS = sorted(
    {path.stem for path in FOLDER.glob("*.yaml")}
    - {"cifar10", "cifar10_unrolled", "digits", "tiny", "pc_darts_imagenet", "robust"}  # robust is darts_minus
)
VARIANTS = {
    "darts": [],
    **{name: ["--config", str(FOLDER / f"{name}.yaml")] for name in PRESETS},
    **{f"darts_{space}": ["--space", space] for space in ("s1", "s2", "s3", "s4")},
}
"""Variant -> its flags; the others are relative to the first."""


class Search:
    """One variant, ready to step."""

    def __init__(self, flags: list[str], size: list[str]):
        self.cfg = parse_config(SearchConfig, [*flags, "--no-unrolled", "--device", "cpu", *size])
        self.space = SPACES[self.cfg.model.space]
        torch.manual_seed(0)
        self.supernet = build_search_supernet("plain", self.cfg.model, CLASSES, self.space, False)
        self.supernet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.architect = build_architect(self.cfg, self.supernet, WORLD)
        self.step = build_search_step(
            self.supernet, self.architect, build_sgd(self.supernet.weights(), self.cfg.optim, fused=True),
            grad_clip=5.0, world=WORLD, cfg=self.cfg.runtime, perturb=self.cfg.optim.perturb,
        )  # fmt: skip
        conditions = epoch_conditions(self.cfg, 25, WORLD.device)
        self.conditions = None if conditions is None else conditions(0)

    def run_step(self, train: tuple[Tensor, ...], valid: tuple[Tensor, ...]) -> None:
        self.step(train, valid, self.conditions, self.cfg.arch_optim.arch_learning_rate > 0)

    def kept_bytes(self, train: tuple[Tensor, ...]) -> int:
        """Return the bytes of all storages saved for the weight step's backward."""
        held: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            kept.append(tensor.detach())  # no storage is freed, and its address taken by another
            return kept[-1]  # without its graph, which would hold itself

        kept: list[Tensor] = []
        images, labels, keys = train
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            mixing = self.architect.architecture.mix_for_weights(self.conditions)
            F.cross_entropy(self.supernet(images, mixing, keys), labels)
        weights = {weight.untyped_storage().data_ptr() for weight in self.supernet.parameters()}
        return sum(size for address, size in held.items() if address not in weights)

    def peak_bytes(self, image_size: int) -> int:
        """Return the predicted peak of a whole step."""
        facts = DatasetFacts(0, 0, image_size, CLASSES)
        step = plan_search(self.cfg, facts, WORLD, self.space).step
        return step.peak_bytes(self.cfg.data.batch_size, self.cfg.model.init_channels)


def batch(size: int, side: int) -> tuple[Tensor, ...]:
    images = torch.randn(size, 3, side, side).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(CLASSES, (size,)), torch.randint(2**62, (size,))


def interleaved(actions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each action, all run in turns, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller network and batch, under two minutes")
    parser.add_argument("--threads", type=whole_number, default=2)
    parser.add_argument("--repeats", type=whole_number, default=5)
    parser.add_argument("--keep", type=new_file, metavar="FILE", help="write the shares, sizes and machine as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    repeats, batch_size, layers, side = (1, 32, 3, 32) if args.quick else (args.repeats, 64, 8, 32)
    size = ["--batch_size", str(batch_size), "--layers", str(layers), "--init_channels", "16"]
    size += ["--alpha_warmup_epochs", "0", "--epochs", "50"]
    searches = {name: Search(flags, size) for name, flags in VARIANTS.items()}
    train, valid = batch(batch_size, side), batch(batch_size, side)
    print(f"{machine(WORLD.device, args.threads)}; {layers} cells of 16 channels, {batch_size} images of {side}x{side}")
    seconds = interleaved({name: lambda s=s: s.run_step(train, valid) for name, s in searches.items()}, repeats)
    kept = {name: search.kept_bytes(train) for name, search in searches.items()}
    peak = {name: search.peak_bytes(side) for name, search in searches.items()}
    print(f"{'':15}{'step, s':>9}{'kept, MiB':>11}{'peak, MiB':>11}{'time':>7}{'memory':>8}{'peak':>7}")
    shares = {}
    for name in searches:
        share = {"time": seconds, "memory": kept, "peak": peak}
        shares[name] = {key: round(values[name] / values["darts"], 3) for key, values in share.items()}
        time_, memory, peak_ = shares[name].values()
        print(
            f"{name:15}{seconds[name]:9.3f}{kept[name] / 2**20:11.1f}{peak[name] / 2**20:11.1f}"
            f"{time_:7.2f}{memory:8.2f}{peak_:7.2f}"
        )
    if args.keep:
        measured = {
            "benchmark": "search_family", "machine": machine(WORLD.device, args.threads), "torch": torch.__version__,
            "batch_size": batch_size, "layers": layers, "init_channels": 16, "image_size": side, "repeats": repeats,
            "darts": {"seconds": seconds["darts"], "kept_bytes": kept["darts"], "peak_bytes": peak["darts"]},
            "shares": shares,
        }  # fmt: skip
        args.keep.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(shares))


if __name__ == "__main__":
    run(main)
