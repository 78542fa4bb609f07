"""Predict images per second on 1 to 64 GPUs from the step of one, and say where they stop to pay.

    python benchmarks/scaling.py [--step train=96:0.02] [--nvlink 360 3] [--infiniband 45 10] [--plot scaling.svg]
    python benchmarks/scaling.py --check            # and check the model on two and four processes of this machine

Three machines: all GPUs in one NVLink domain, nodes of 8 joined by InfiniBand (a network card per GPU), and nodes of
one GPU. Each GPU keeps the images per step that were measured. Links are assumptions: what NCCL reaches of 450 GB/s
(NVLink of an H200, one way) and 400 Gb/s (InfiniBand NDR). scaling_model.py is the model. Bytes are those that
a step averages, recorded from it. Seconds are those of benchmarks/results, or given. So are the operations that Python
launches, each in the time that the 2018 search step took per operation. The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from command import new_file, run, whole_number
from machine import machine
from scaling_check import check
from scaling_model import GOAL, Fabric, Link, Step, fastest_split, last_above
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.config.shared import SgdConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_step import search_step

RESULTS = Path(__file__).parent / "results"
COUNTED = ("search_step-nvidia_h200", "train_operations")
COUNTS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Recording(World):
    """One of several processes, which notes how many bytes each exchange has, and exchanges nothing."""

    messages: list[int] = field(default_factory=list)

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.messages.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
        return list(tensors)

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are: there is no other process."""


def search_messages(method: str | None) -> list[int]:
    """Return the bytes of each exchange of a search step: 16 channels, 8 cells, 10 classes."""
    world = Recording(torch.device("cpu"), size=2)
    supernet = build_supernet("stacked", 16, 8, 10)
    optimizer = build_sgd(supernet.weights(), SgdConfig(), fused=True)
    architect = Architect(supernet, learning_rate=3e-4, weight_decay=1e-3, unrolled_method=method, world=world)
    batch = torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    search_step(supernet, architect, optimizer, batch, batch, grad_clip=5.0, world=world)
    return world.messages


def training_messages(stem: str, channels: int, classes: int, layers: int, auxiliary: bool) -> list[int]:
    """Return the bytes of a training's gradient."""
    with torch.device("meta"):
        network = DerivedNetwork(stem, channels, classes, layers, auxiliary, load_genotype("DARTS"))
    return [sum(weight.numel() * weight.element_size() for weight in network.parameters())]


MESSAGES: dict[str, Callable[[], list[int]]] = {
    "search": lambda: search_messages(None),
    "search --unrolled": lambda: search_messages("finite_difference"),
    "train": lambda: training_messages("cifar", 36, 10, 20, True),
    "train_imagenet": lambda: training_messages("imagenet", 48, 1000, 14, True),
}
WHOLE_BATCH = {"search": 64, "search --unrolled": 64, "train": 96, "train_imagenet": 1024}
"""Images per step of the recipe, over all GPUs."""
ABOUT = {
    "search": "first order, Triton's kernels",
    "search --unrolled": "finite differences, torch's operations",
    "train": "36 channels, 20 cells, auxiliary head",
    "train_imagenet": "48 channels, 14 cells, bfloat16",
}


def measured_steps() -> dict[str, tuple[int, float, str]]:
    """Return images, seconds and file of the steps that were measured on one GPU; those of whole runs come first."""
    found = {}
    readers: dict[str, tuple[str, Callable[[dict], tuple[int, float]]]] = {
        "search": ("search_cifar10", lambda r: (r["batch_size"], r["seconds_per_step"])),
        "search --unrolled": ("search_step", lambda r: (r["batch_size"], r["unrolled_seconds"]["ours"])),
        "train": ("train_step", lambda r: (r["cifar"]["timed"]["batch_size"], r["cifar"]["seconds"]["fast"])),
        "train_imagenet": ("loader", lambda r: (r["batch_size"], r["batch_size"] / r["model_images_per_s"])),
    }
    for name, (file, read) in readers.items():
        path = RESULTS / f"{file}-nvidia_h200.json"
        if path.exists():
            found[name] = (*read(json.loads(path.read_text(encoding="utf-8"))), path.name)
    entries = RESULTS / "gpu_entries-nvidia_h200.json"
    if entries.exists():
        outcomes = json.loads(entries.read_text(encoding="utf-8"))["commands"]
        for name, entry in {"search": "train_search", "train": "train", "train_imagenet": "train_imagenet"}.items():
            if (result := outcomes.get(entry, {}).get("result")) is not None:
                found[name] = (result["batch_size"], result["seconds_per_step"], entries.name)
    return found


def host_seconds(step: str, microseconds: float | None) -> float:
    """Return the seconds in which Python launches a step's operations, at so many microseconds each, or as measured."""
    search, training = (json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in COUNTED)
    operations = {
        "search": search["ops_first_order"],
        "search --unrolled": search["ops_unrolled"],
        "train": training["cifar"]["ops"],
        "train_imagenet": training["imagenet"]["ops"],
    }
    measured = search["first_order_seconds"]["nchw"] / search["ops_first_order_original"]
    return operations[step] * (measured if microseconds is None else 1e-6 * microseconds)


def given_step(text: str) -> tuple[str, tuple[int, float, str]]:
    """Read NAME=IMAGES:SECONDS."""
    name, _, numbers = text.partition("=")
    images, _, seconds = numbers.partition(":")
    try:
        step = int(images), float(seconds), "given"
    except ValueError:
        step = 0, 0.0, ""
    if name not in MESSAGES or step[0] < 1 or not 0 < step[1] < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=IMAGES:SECONDS, such as train=96:0.02; NAME is one of {', '.join(MESSAGES)}"
        )
    return name, step


def predict(name: str, step: Step, fabrics: dict[str, Fabric]) -> dict[str, Any]:
    """Print a step's table, and return it."""
    print(
        f"\n{name} ({ABOUT[name]}), {step.images} images per GPU, {sum(step.messages) / 1e6:.1f} MB averaged, "
        f"{1e3 * step.host_s:.0f} ms of launching"
    )
    print(f"{'GPUs':>5}" + "".join(f"{fabric + ', images/s':>30}{'':>7}" for fabric in fabrics))
    rows = []
    for gpus in COUNTS:
        cells = {
            fabric: {
                "images_per_s": round(step.rate(links, gpus), 1),
                "efficiency": round(step.efficiency(links, gpus), 4),
                "images_per_gpu_for_goal": step.images_for(links, gpus),
            }
            for fabric, links in fabrics.items()
        }
        rows.append({"gpus": gpus, **cells})
        print(f"{gpus:5}" + "".join(f"{c['images_per_s']:30,.0f}{c['efficiency']:7.1%}" for c in cells.values()))
    verdicts = {}
    for fabric, links in fabrics.items():
        last, split = last_above(GOAL, step, links, COUNTS), fastest_split(step, links, WHOLE_BATCH[name], COUNTS)
        images, whole = step.images_for(links, COUNTS[-1]), WHOLE_BATCH[name]
        verdicts[fabric] = {"gpus_at_goal": last, "images_for_goal": images, "fastest_split": split}
        print(
            f"{fabric}: {GOAL:.0%} or more up to {last} GPUs; {COUNTS[-1]} GPUs need {images} images each; "
            f"a batch of {whole} in all is done soonest on {split} "
            f"({step.rate(links, split, whole / split):,.0f} images/s)"
        )
    return {
        "images": step.images, "seconds": step.seconds, "host_s": round(step.host_s, 4),
        "messages": list(step.messages), "whole_batch": WHOLE_BATCH[name], "rows": rows, "verdicts": verdicts,
    }  # fmt: skip


def plot(steps: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot efficiency against the number of GPUs, as SVG."""
    from darts_hpc.pictures.figures import POINTS, add_axes, add_legend, new_figure, to_svg
    from darts_hpc.pictures.theme import COLORS

    fabrics = list(next(iter(steps.values()))["verdicts"])
    colors = dict(zip(fabrics, (COLORS["third"], COLORS["accent"], COLORS["second"]), strict=True))
    figure = new_figure(2.6 * len(steps), 2.5)
    for place, (name, result) in enumerate(steps.items()):
        box = 0.5 + 2.6 * place, 0.45, 0.15 + 2.6 * (len(steps) - 1 - place), 0.65
        axes = add_axes(figure, box, "GPUs", grid="both")
        for width, (fabric, color) in zip((4.5, 2.5, 1.2), colors.items(), strict=True):  # they lie on one another
            shares = [100 * row[fabric]["efficiency"] for row in result["rows"]]
            axes.plot(COUNTS, shares, color=color, linewidth=width, clip_on=False)
        axes.axhline(100 * GOAL, color=COLORS["muted"], linewidth=1, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(COUNTS, [str(gpus) for gpus in COUNTS])
        axes.set_ylim(70, 100)
        axes.set_title(f"{name}, {result['images']} images per GPU", fontsize=POINTS, color=COLORS["ink"], loc="left")
        if not place:
            axes.set_ylabel("% of N times one GPU", fontsize=POINTS, color=COLORS["muted"])
    add_legend(figure, [(name, {"color": color}) for name, color in colors.items()], 3)
    path.write_text(to_svg(figure), encoding="utf-8")


def print_check(result: dict[str, Any]) -> None:
    """Print what was measured on real processes beside what the model says."""
    print(
        f"\n{result['ranks']} processes on {result['cores']} cores: gloo {result['bandwidth'] / 1e9:.2f} GB/s and "
        f"{1e6 * result['latency_s']:.0f} us per message; the gradient's {result['gradient_bytes'] / 1e6:.1f} MB in "
        f"{result['predicted_exchange_s']:.3f} s. Step measured {result['step_s']:.3f} s; predicted "
        + ", ".join(
            f"{seconds:.3f} s ({name.replace('_', ' ')}, {result['errors'][name]:+.1%})"
            for name, seconds in result["predicted_s"].items()
        )
    )


def main() -> None:
    """Predict, print, plot and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--step", type=given_step, action="append", default=[], metavar="NAME=IMAGES:SECONDS",
        help=f"a step on one GPU, in place of the measured one: {', '.join(MESSAGES)}",
    )  # fmt: skip
    parser.add_argument("--nvlink", nargs=2, type=positive, default=(360.0, 3.0), metavar=("GB/s", "us"))
    parser.add_argument("--infiniband", nargs=2, type=positive, default=(45.0, 10.0), metavar=("GB/s", "us"))
    parser.add_argument(
        "--host_us",
        type=not_negative,
        help="us in which Python launches an operation; left out, as measured; 0: a graph",
    )
    parser.add_argument("--plot", type=new_file, help="SVG file to write")
    parser.add_argument("--check", action="store_true", help="check the model on real processes, over gloo")
    parser.add_argument("--rounds", type=whole_number, default=15, help="of the check")
    args = parser.parse_args()
    nvlink, infiniband = (Link(1e9 * rate, 1e-6 * hop) for rate, hop in (args.nvlink, args.infiniband))
    fabrics = {
        "NVLink": Fabric(nvlink, nvlink, COUNTS[-1]),
        "8 by NVLink, InfiniBand": Fabric(nvlink, infiniband, 8),
        "InfiniBand": Fabric(infiniband, infiniband, 1),
    }
    result: dict[str, Any] = {
        "benchmark": "scaling", "nvlink": args.nvlink, "infiniband": args.infiniband, "host_us": args.host_us,
    }  # fmt: skip
    if args.check:  # first: processes are forked, which torch's threads would not survive
        result["check"] = [check(ranks, args.rounds) for ranks in (2, 4)]
        result["machine"], result["torch"] = machine(torch.device("cpu"), 1), torch.__version__
    steps = measured_steps() | dict(args.step)
    predictions = {}
    for name, messages in MESSAGES.items():
        if name not in steps:
            print(f"{name}: not measured on a GPU yet: make gpu PART=entries, or --step {name}=IMAGES:SECONDS")
            continue
        images, seconds, source = steps[name]
        step = Step(seconds, images, messages(), host_seconds(name, args.host_us))
        predictions[name] = {"source": source, **predict(name, step, fabrics)}
    if args.plot:
        plot(predictions, args.plot)
    for checked in result.get("check", []):
        print_check(checked)
    print(strict_json.dumps({**result, "steps": predictions}))


def not_negative(text: str) -> float:
    """Read a number from 0 up."""
    return positive(text) if text.strip("0.") else 0.0


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


if __name__ == "__main__":
    run(main)
