"""Time the two ways to an exact second-order gradient: double backward and forward-over-reverse.

    python benchmarks/exact_gradient.py [--quick] [--threads 2] [--repeats 5]

The unrolled gradient needs the training loss's gradient g with respect to the weights, and, for a vector v, the product
of its mixed second derivative with v. Double backward differentiates g . v once more with respect to the alphas.
Forward-over-reverse computes g by one plain backward, and pushes v forward through the backward of the alphas'
gradient. Both are compared in float64 first. Steps are interleaved, times are medians, memory is that of live tensors.
The last line is one JSON object.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from command import device_here, run, whole_number
from machine import machine
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.memory.live_bytes import LiveBytes
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.hypergradient import LabelledImages

Vector = dict[str, Tensor]
Products = list[Tensor]


def loss_of(supernet: RelaxedNetwork, batch: LabelledImages, values: Vector) -> Tensor:
    return F.cross_entropy(torch.func.functional_call(supernet, values, batch[0]), batch[1])


def double_backward(supernet: RelaxedNetwork, batch: LabelledImages, v: Vector) -> Products:
    live = supernet.named_weights()
    gradient = torch.autograd.grad(loss_of(supernet, batch, dict(live)), list(live.values()), create_graph=True)
    return list(torch.autograd.grad(gradient, supernet.alphas(), [v[name] for name in live]))


def forward_over_reverse(supernet: RelaxedNetwork, batch: LabelledImages, v: Vector) -> Products:
    live = supernet.named_weights()
    alphas = {name: alpha.detach() for name, alpha in supernet.named_alphas().items()}
    torch.autograd.grad(loss_of(supernet, batch, {**live, **alphas}), list(live.values()))  # the unrolled step's g

    def alpha_gradient(weights: Vector) -> Vector:
        return torch.func.grad(lambda own: loss_of(supernet, batch, {**weights, **own}))(alphas)

    weights = {name: weight.detach() for name, weight in live.items()}
    return list(torch.func.jvp(alpha_gradient, (weights,), (v,))[1].values())


WAYS: dict[str, Callable[..., Products]] = {
    "double_backward": double_backward,
    "forward_over_reverse": forward_over_reverse,
}


def problem(
    form: str, init_channels: int, layers: int, batch_size: int, side: int, dtype: torch.dtype, device: torch.device
) -> tuple[RelaxedNetwork, LabelledImages, Vector]:
    torch.manual_seed(0)
    supernet = build_supernet(form, init_channels, layers, 10).to(device, dtype)
    images = torch.randn(batch_size, 3, side, side, dtype=dtype, device=device)
    if form == "plain":
        supernet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
    v = {name: torch.randn_like(weight) for name, weight in supernet.named_weights().items()}
    return supernet, (images, torch.randint(10, (batch_size,), device=device)), v


def check_equal(form: str, device: torch.device) -> float:
    """Return the relative distance of both products in float64."""
    supernet, batch, v = problem(form, 4, 3, 4, 8, torch.float64, device)
    with frozen_running_statistics(supernet):
        one, other = (torch.cat(way(supernet, batch, v)) for way in WAYS.values())
    error = ((one - other).norm() / one.norm()).item()
    if not error < 1e-10:
        raise SystemExit(f"the two products differ by {error:.1e} ({form} supernet)")
    return error


def measure(form: str, sizes: tuple[int, int, int, int], repeats: int, device: torch.device) -> dict[str, object]:
    supernet, batch, v = problem(form, *sizes, torch.float32, device)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    result: dict[str, object] = {}
    with frozen_running_statistics(supernet):
        for name, way in WAYS.items():
            with LiveBytes() as live:
                way(supernet, batch, v)
            result[f"{name}_peak_bytes"] = live.peak
        for _ in range(repeats):
            for name, way in WAYS.items():
                start = time.perf_counter()
                way(supernet, batch, v)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result |= {f"{name}_seconds": round(median, 4) for name, median in medians.items()}
    result["forward_over_reverse_vs_double_backward"] = round(
        medians["forward_over_reverse"] / medians["double_backward"], 3
    )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller network and batch")
    parser.add_argument("--threads", type=whole_number, default=2)
    parser.add_argument("--repeats", type=whole_number, default=5)
    parser.add_argument("--forms", nargs="+", choices=["stacked", "plain"], help="stacked; both when quick")
    parser.add_argument("--device", type=device_here, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device: torch.device = args.device
    sizes = (4, 3, 4, 8) if args.quick else (16, 5, 16, 16)
    rows = {}
    for form in args.forms or (["stacked", "plain"] if args.quick else ["stacked"]):
        error = check_equal(form, device)
        rows[form] = {"float64_error": error, **measure(form, sizes, args.repeats, device)}
        print(form, rows[form], flush=True)
    names = ("init_channels", "layers", "batch_size", "image_size")
    facts = {"benchmark": "exact_gradient", "machine": machine(device, args.threads), "torch": torch.__version__}
    print(strict_json.dumps({**facts, **dict(zip(names, sizes, strict=True)), "repeats": args.repeats, **rows}))


if __name__ == "__main__":
    run(main)
