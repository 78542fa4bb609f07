"""Time the two ways to the exact Hessian-vector product of the second order: double backward and forward over reverse.

    python benchmarks/exact_gradient.py [--init_channels 8] [--layers 4] [--batch_size 16] [--rounds 3]

Both differentiate the weights' gradient once more, at the same weights and along the same vector, and are compared in
float64 before anything is timed. They take turns; seconds are medians. The last line is one JSON object. What the
search does is double backward (darts_hpc/search/hypergradient.py).
"""

import argparse
import json

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from search_step import batches, interleaved_medians, machine
from torch import Tensor

from darts_hpc.models.build import build_supernet
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.relaxed import RelaxedNetwork

Batch = tuple[Tensor, Tensor]
Vector = dict[str, Tensor]


def loss_of(supernet: RelaxedNetwork, weights: Vector, batch: Batch) -> Tensor:
    return F.cross_entropy(torch.func.functional_call(supernet, weights, batch[0]), batch[1])


def double_backward(supernet: RelaxedNetwork, batch: Batch, vector: Vector) -> Tensor:
    weights = supernet.named_weights()
    with frozen_running_statistics(supernet):
        gradient = torch.autograd.grad(
            loss_of(supernet, dict(weights), batch), list(weights.values()), create_graph=True
        )
        products = torch.autograd.grad(gradient, supernet.alphas(), [vector[name] for name in weights])
    return torch.cat(products)


def forward_over_reverse(supernet: RelaxedNetwork, batch: Batch, vector: Vector) -> Tensor:
    with frozen_running_statistics(supernet), forward_ad.dual_level():
        weights = {n: forward_ad.make_dual(w.detach(), vector[n]) for n, w in supernet.named_weights().items()}
        gradients = torch.autograd.grad(loss_of(supernet, weights, batch), supernet.alphas())
        tangents = [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
    assert all(tangent is not None for tangent in tangents)
    return torch.cat([tangent for tangent in tangents if tangent is not None])


def prepare(
    kind: str, sizes: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[RelaxedNetwork, Vector]:
    torch.manual_seed(0)
    supernet = build_supernet(kind, *sizes, 10).to(device, dtype)
    if kind == "plain":
        supernet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return supernet, {name: torch.randn_like(w) for name, w in supernet.named_weights().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init_channels", type=int, default=8)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    result: dict[str, object] = {"benchmark": "exact_gradient", "machine": machine(device, args.threads)}
    result |= {"torch": torch.__version__, **{name: getattr(args, name) for name in ("init_channels", "layers")}}
    result |= {"batch_size": args.batch_size, "rounds": args.rounds}
    for kind in ("plain", "stacked"):
        supernet, vector = prepare(kind, (4, 3), torch.float64, torch.device("cpu"))
        few = batches(4, 8, torch.float64, torch.device("cpu"))[0]
        expected, other = (way(supernet, few, vector) for way in (double_backward, forward_over_reverse))
        error = ((other - expected).norm() / expected.norm()).item()
        if not error < 1e-10:
            raise SystemExit(f"{kind}: the two products differ by {error:.1e}")
        supernet, vector = prepare(kind, (args.init_channels, args.layers), torch.float32, device)
        data = batches(args.batch_size, 32, torch.float32, device)[0]
        medians = interleaved_medians(
            {
                "double_backward": lambda own=supernet, v=vector, d=data: double_backward(own, d, v),  # pyright: ignore
                "forward_over_reverse": lambda own=supernet, v=vector, d=data: forward_over_reverse(own, d, v),  # pyright: ignore
            },
            args.rounds,
            device,
        )
        ratio = medians["forward_over_reverse"] / medians["double_backward"]
        print(f"{kind}: {medians}, forward over reverse takes {ratio:.2f} times as long; they differ by {error:.1e}")
        result[kind] = {"seconds": medians, "forward_over_reverse_vs_double_backward": round(ratio, 3)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
