"""Time one training step against the 2018 loop, and count what a GPU would launch and move, for both data sets.

    python benchmarks/train_step.py [--quick] [--threads 2] [--rounds 5] [--compile]

Ours is the step of train and train_imagenet with --network fast, with the batch: on CIFAR selection and augmentation of
images that are on the device, on ImageNet a batch that a loader has made. First losses and gradients are compared in
float64. Forms are timed in turns; seconds are medians, ratios medians of the rounds' ratios. Operations are counted at
full size, on tensors without memory that go the way of a GPU; kernels and traffic are estimates (count_operations.py).
The share of an evaluation is that of an epoch's steps, by time and by traffic, for the data set's numbers of images.
On a GPU the step is timed as a CUDA graph too, as a run takes it. The last line is one JSON object.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from command import device_here, run, whole_number
from count_operations import CountOperations
from machine import machine
from original_training import OriginalNetwork, OriginalTraining
from torch import Tensor
from training_settings import FULL, IMAGES, ON_CPU, QUICK, OneBatch, Setting, build_loader, endless

from darts_hpc import strict_json
from darts_hpc.config.shared import SgdConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.loading.sources import eval_batch_size
from darts_hpc.distributed.world import World
from darts_hpc.models.derived_fast.build import AnyDerivedNetwork, choose_network
from darts_hpc.run.metrics import Meter
from darts_hpc.space.phases import meta_stands_for
from darts_hpc.training.compile import compile_modules
from darts_hpc.training.cuda_graph import WARM_UP_STEPS
from darts_hpc.training.loops import evaluate, train_step
from darts_hpc.training.optim import build_sgd_of, choose_optimizer_impl
from darts_hpc.training.precision import Precision
from darts_hpc.training.seeding import seed_everything
from darts_hpc.training.training_step import build_forward, build_training_step

ALONE, META = World(torch.device("cpu")), torch.device("meta")
LAYOUTS = {"2018_nchw": torch.contiguous_format, "2018_channels_last": torch.channels_last}


class Training:
    """A network of ours with its optimizer and its batches, stepped as a run steps it."""

    def __init__(self, setting: Setting, form: str, precision: str, device: torch.device):
        with device:
            network, chosen, why = choose_network(form, setting.network(), device)
        assert chosen == form, why
        self.network: AnyDerivedNetwork = network.train()
        self.network.to(memory_format=torch.channels_last)
        self.network.set_drop_path(setting.drop_path_prob)
        self.weights = list(self.network.parameters())
        cfg = SgdConfig(weight_decay=setting.weight_decay)
        self.optimizer = build_sgd_of(choose_optimizer_impl("auto", device), self.weights, cfg)
        self.precision = Precision(precision, torch.device("cpu") if device.type == "meta" else device)
        self.precision.skipped = self.precision.skipped.to(device)  # autocast knows no meta tensors
        self.meter = Meter(device)
        self.step_cfg, self.loader = setting.step_cfg, build_loader(setting, device)
        self.batches = endless(self.loader.batches)

    def step(self) -> tuple[Tensor, Tensor]:
        return train_step(
            self.network, self.optimizer, self.batches, self.step_cfg, self.precision, self.weights, self.meter, ALONE
        )  # fmt: skip

    def graphed_step(self) -> Callable[[], object]:
        """Return the step as a run takes it on a GPU, captured: on CIFAR with the batch in it."""
        own = build_training_step(
            self.network, self.optimizer, self.loader, self.step_cfg, self.precision, self.meter,
            World(self.meter.totals.device), as_graph=True,
        )  # fmt: skip
        inputs = endless(own.batches)
        for _ in range(WARM_UP_STEPS + 1):
            own.take(inputs)
        return lambda: own.take(inputs)


def evaluated_at_once(setting: Setting, device: torch.device) -> int:
    """Return the images of a batch of the evaluation, as train and train_imagenet take them."""
    return eval_batch_size(setting.batch_size, device) if setting.stem == "cifar" else setting.batch_size


def evaluation_step(setting: Setting, device: torch.device) -> Callable[[], object]:
    """Return what evaluates a batch by the fast network, on a GPU as a CUDA graph."""
    size, images = setting.image_size, evaluated_at_once(setting, device)
    with device:
        network = choose_network("fast", setting.network(), device)[0]
        labels = torch.zeros(images, dtype=torch.int64)
        batch = Batch(torch.randn(images, 3, size, size).to(memory_format=torch.channels_last), labels, labels)
    network.to(memory_format=torch.channels_last)
    forward = build_forward(network, World(device), as_graph=device.type == "cuda")

    def step() -> None:
        evaluate(network, OneBatch(batch, device), None, Precision("fp32", device), forward=forward)

    for _ in range(WARM_UP_STEPS + 1 if device.type == "cuda" else 0):
        step()
    return step


def share_of_epoch(setting: Setting, evaluation: float, step: float, device: torch.device) -> float:
    """Return what an evaluation costs as a share of an epoch's steps, from the costs of a batch of each."""
    trained, evaluated = IMAGES[setting.stem]
    return evaluated / evaluated_at_once(setting, device) * evaluation / (trained / setting.batch_size * step)


def original_step(setting: Setting, layout: str, device: torch.device) -> Callable[[], list[float]]:
    """Return the step of the 2018 loop, on a batch that is there."""
    with device:
        network = setting.network(OriginalNetwork)
    network.drop_path_prob = setting.drop_path_prob
    assert isinstance(network, OriginalNetwork)
    network.to(memory_format=LAYOUTS[layout])
    training = OriginalTraining(network, setting.label_smooth, setting.weight_decay, LAYOUTS[layout])
    images, labels, _ = next(endless(build_loader(setting, device).batches))

    def step() -> list[float]:
        numbers = training.step(images, labels)
        if device.type == "meta":
            return []
        return [number.item() for number in numbers]  # the original reads them at once

    return step


def check_same_gradients() -> dict[str, float]:
    """Compare loss and gradients in float64 with the 2018 loop's, on small networks; return relative errors."""
    errors = {}
    for name, full in FULL.items():
        side = 16 if name == "cifar" else 64
        setting = replace(full, init_channels=4, layers=5, batch_size=4, classes=10, image_size=side)
        images, labels = torch.randn(4, 3, side, side, dtype=torch.float64), torch.randint(10, (4,))
        baseline = setting.network(OriginalNetwork).double()
        assert isinstance(baseline, OriginalNetwork)
        training = OriginalTraining(baseline, setting.label_smooth, 0.0, torch.contiguous_format)
        expected = training.loss(images, labels)[0]
        expected.backward()
        for form in ("plain", "fast"):
            network = choose_network(form, setting.network().double(), torch.device("cpu"))[0].train()
            logits, auxiliary = network(images)
            smooth = setting.label_smooth
            loss = F.cross_entropy(logits, labels, label_smoothing=smooth)
            loss = loss + 0.4 * F.cross_entropy(auxiliary, labels, label_smoothing=smooth)
            loss.backward()
            gradients = network.original_layout(
                {n: w.grad for n, w in network.named_parameters() if w.grad is not None}
            )
            pairs = [(gradients[n], w.grad) for n, w in baseline.named_parameters() if w.grad is not None]
            floor = 1e-6 * max(b.abs().max().item() for _, b in pairs)  # a bias before a BatchNorm has a gradient of 0
            worst = max(((a - b).abs().max() / b.abs().max().clamp_min(floor)).item() for a, b in pairs)
            errors[f"{name}_{form}"] = error = max(worst, abs(loss.item() / expected.item() - 1))
            if not error < 1e-9:
                raise SystemExit(f"{name}: the {form} network differs from the 2018 one by {error:.1e}")
    return errors


def count(setting: Setting, form: str) -> CountOperations:
    """Count the second step of a form, whose optimizer has its state, at full size and without memory."""
    # of meta tensors torch would clip one after the other, which it does not on a GPU
    with meta_stands_for("cuda"), patch.object(torch.nn.utils.clip_grad, "_has_foreach_support", lambda *_: True):
        if form == "2018":
            step, counted = original_step(setting, "2018_nchw", META), CountOperations()
        else:
            training, counted = Training(setting, form, "fp32", META), CountOperations()
            name_parts(training, counted)
            step = training.step
        step()
        with counted:
            counted.part = "step" if form == "2018" else "batch"
            step()
    return counted


def evaluation_bytes(setting: Setting) -> int:
    """Count the bytes that a batch of the evaluation moves, as `count` does those of a step."""
    images = torch.empty(evaluated_at_once(setting, META), 3, setting.image_size, setting.image_size, device=META)
    with meta_stands_for("cuda"), META:
        network = choose_network("fast", setting.network(), META)[0].eval()
        with torch.no_grad(), CountOperations() as counted:
            network(images)
    return counted.total("bytes")


def name_parts(training: Training, counted: CountOperations) -> None:
    """Let a training say which part of its step is under way."""

    def begins(part: str, then: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
        def begin(*args: Any) -> Any:
            counted.part = part
            return then(*args)

        return begin

    training.network.register_forward_pre_hook(begins("forward"))
    training.network.register_forward_hook(begins("loss and backward"))
    training.meter.update = begins("meter", training.meter.update)
    training.precision.clip_and_step = begins("clip and update", training.precision.clip_and_step)


def counts(name: str) -> dict[str, Any]:
    """Return operations, kernels and gigabytes of the forms, and print those of their parts."""
    numbers: dict[str, Any] = {}
    for form, suffix in (("fast", ""), ("plain", "_plain"), ("2018", "_2018")):
        counted = count(FULL[name], form)
        numbers[f"ops{suffix}"] = counted.total()
        numbers[f"kernels{suffix}"] = counted.total("kernels")
        numbers[f"gigabytes{suffix}"] = round(counted.total("bytes") / 1e9, 2)
        for part, own in counted.parts.items():
            print(
                f"{name:<9}{form:<6}{part:<18}{own['operations']:>7} operations{own['kernels']:>7} kernels"
                f"{own['bytes'] / 1e9:>8.2f} GB"
            )
        if form == "fast":
            share = share_of_epoch(FULL[name], evaluation_bytes(FULL[name]), counted.total("bytes"), META)
            numbers["evaluation_traffic_share"] = round(share, 4)
            print(f"{name:<9}{form:<6}an evaluation moves {share:.1%} of what an epoch's steps do")
    return numbers


def interleaved(steps: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return each one's seconds per step, taking turns, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, rounds):
        for name in list(steps) if turn % 2 else reversed(steps):
            gc.collect()
            start = time.perf_counter()
            steps[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def times(setting: Setting, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time the forms in turns; return how many times faster the fast one is than the others."""
    ours = "fast"
    variants = {ours: (ours, "fp32"), "plain": ("plain", "fp32")}
    if device.type == "cuda":
        variants |= {f"{form}_bf16": (form, "bf16") for form in (ours, "plain")}
    steps: dict[str, Callable[[], object]] = {
        name: Training(setting, *of, device).step for name, of in variants.items()
    }
    if device.type == "cuda":
        steps |= {
            f"{name}_graph": Training(setting, *variants[name], device).graphed_step() for name in (ours, "fast_bf16")
        }
    steps["evaluation"] = evaluation_step(setting, device)
    if args.compile:
        training = Training(setting, ours, "fp32", device)
        if compile_modules(training.network.cells, device):
            steps[f"{ours}_compiled"] = training.step
    steps |= {layout: original_step(setting, layout, device) for layout in LAYOUTS}
    seconds = interleaved(steps, args.rounds, device)
    evaluations = seconds.pop("evaluation")
    trained = seconds["fast_graph" if device.type == "cuda" else ours]
    share = statistics.median(
        share_of_epoch(setting, own, step, device) for own, step in zip(evaluations, trained, strict=True)
    )
    numbers: dict[str, Any] = {}
    for name, own in seconds.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(own, seconds[ours], strict=True))
        median = statistics.median(own)
        print(f"{setting.stem:<9}{name:<20}{median:>9.4f} s{setting.batch_size / median:>10.1f} images/s{ratio:>8.2f}")
        if name != ours:
            numbers[f"vs_{name}"] = round(ratio, 3)
    images, median = evaluated_at_once(setting, device), statistics.median(evaluations)
    print(
        f"{setting.stem:<9}{'evaluation':<20}{median:>9.4f} s{images / median:>10.1f} images/s"
        f"   {share:.1%} of an epoch's steps"
    )
    return {
        **numbers,
        "evaluation": {"seconds": round(median, 4), "batch_size": images, "share_of_epoch": round(share, 4)},
        "seconds": {name: round(statistics.median(own), 4) for name, own in seconds.items()},
    }


def main() -> None:
    """Check, time and count both data sets' steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller networks and batches are timed: under a minute")
    parser.add_argument("--threads", type=whole_number, default=2)
    parser.add_argument("--rounds", type=whole_number, help="timed steps of each form; 5, or 2 when quick")
    parser.add_argument(
        "--batch_size", type=whole_number, help="images of the timed steps; left out, as the machine bears"
    )
    parser.add_argument(
        "--compile", action="store_true", help="time a compiled network too, after minutes of compiling"
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--counts_only", action="store_true", help="skip times")
    part.add_argument("--times_only", action="store_true", help="skip counts, which are the same on every machine")
    parser.add_argument("--device", type=device_here, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    seed_everything(0, deterministic=False)  # cuDNN tries its algorithms, as in a run and in the original
    torch.set_num_threads(1)  # tiny tensors: waking a second thread costs more than it gives
    device: torch.device = args.device
    errors = check_same_gradients()
    print("losses and gradients equal the 2018 loop's; relative errors:", errors)
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {name: {} for name in FULL}
    for name, full in FULL.items():
        smaller: dict[str, Any] = QUICK[name] if args.quick else ON_CPU[name] if device.type == "cpu" else {}
        if args.batch_size:
            smaller = {**smaller, "batch_size": args.batch_size}
        if not args.counts_only:
            setting = replace(full, **smaller)
            result[name] |= times(setting, args, device) | {"timed": asdict(setting)}
        if not args.times_only:
            result[name] |= counts(name)
    where = {"benchmark": "train_step", "machine": machine(device, args.threads), "torch": torch.__version__}
    print(strict_json.dumps({**where, "rounds": args.rounds, "errors": errors, **result}))


if __name__ == "__main__":
    run(main)
