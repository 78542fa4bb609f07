"""How far finite differences are from the exact second-order gradient of the alphas, along a search on digits.

    python benchmarks/unrolled_error.py [--quick] [--plot FILE.png]

At the end of every epoch of a first-order search the gradient is taken in float64 both ways at the same weights,
alphas and batches: exactly, and by the paper's formula for several numerators epsilon of its step r = epsilon / |v|.
Cosine and relative distance are those of the Hessian-vector product alone, which is what the formula approximates, and
("whole") of the whole gradient, which moves the alphas. The last line is one JSON object.

The network has kinks (ReLU, max-pool). A step that crosses one adds its jump divided by 2 r, so the formula is off at
the paper's epsilon and still at 1e-6; from about 1e-7 on it crosses none and agrees, which is checked at the smallest.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from command import new_file, run
from machine import machine
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.commands.train_search import search_sources
from darts_hpc.config.train_search import SearchDataConfig, SearchOptimConfig
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search import hypergradient
from darts_hpc.search.architect import Architect
from darts_hpc.training.optim import build_sgd, set_learning_rate
from darts_hpc.training.schedule import cosine_learning_rate
from darts_hpc.training.search_step import search_step

EPSILONS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
PAPERS = 1e-2


def compare(ours: Tensor, exact: Tensor) -> dict[str, float]:
    return {
        "cosine": F.cosine_similarity(ours, exact, dim=0).item(),
        "relative_distance": ((ours - exact).norm() / exact.norm()).item(),
    }


def measure(supernet, optimizer, batches: list, world: World) -> dict[str, list[dict[str, float]]]:
    """Return, by epsilon, one comparison for each pair of batches; live weights and alphas are left as they are."""
    state = {name: tensor.double() for name, tensor in supernet.state_dict().items() if tensor.is_floating_point()}
    twin = build_supernet("plain", supernet.init_channels, supernet.layers, 10).double()
    twin.load_state_dict(state, strict=False)
    twin_optimizer = torch.optim.SGD(twin.weights(), optimizer.param_groups[0]["lr"], momentum=0.9, weight_decay=3e-4)
    for w, live in zip(twin.weights(), supernet.weights(), strict=True):
        twin_optimizer.state[w]["momentum_buffer"] = optimizer.state[live]["momentum_buffer"].double()
    results: dict[str, list[dict[str, float]]] = {str(epsilon): [] for epsilon in EPSILONS}
    for train, valid in batches:
        arguments = (twin, (train[0].double(), train[1]), (valid[0].double(), valid[1]), twin_optimizer)
        exact = torch.cat(hypergradient.exact_gradient(*arguments, F.cross_entropy, world)).flatten()
        direct = torch.cat(direct_term(*arguments, world)).flatten()
        for epsilon in EPSILONS:
            hypergradient.EPSILON = epsilon
            finite = torch.cat(hypergradient.finite_difference_gradient(*arguments, F.cross_entropy, world)).flatten()
            whole = {f"whole_{name}": value for name, value in compare(finite, exact).items()}
            # both share the direct term, so what differs is -xi times the product
            results[str(epsilon)].append({**compare(finite - direct, exact - direct), **whole})
        hypergradient.EPSILON = PAPERS
    return results


def direct_term(twin, train, valid, optimizer, world: World) -> list[Tensor]:
    """Return d/dalpha L_valid(w', alpha) at w' held: the gradient without the product."""
    weights = {name: w.detach() for name, w in twin.named_weights().items()}
    with hypergradient.frozen_running_statistics(twin):
        live = {name: w.detach().requires_grad_() for name, w in weights.items()}
        loss = F.cross_entropy(torch.func.functional_call(twin, live, train[0]), train[1])
        gradient = dict(zip(live, torch.autograd.grad(loss, list(live.values())), strict=True))
        stepped = hypergradient.unrolled_weights(weights, gradient, optimizer, twin.named_weights())
        loss = F.cross_entropy(torch.func.functional_call(twin, stepped, valid[0]), valid[1])
        return world.mean(torch.autograd.grad(loss, twin.alphas()))


def plot(epochs: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, quantity, title in (
        (axes[0], "cosine", "cosine with the exact product"),
        (axes[1], "relative_distance", "distance from it, relative"),
    ):
        for epsilon in EPSILONS:
            values = [epoch["epsilon"][str(epsilon)][quantity] for epoch in epochs]
            label = f"ε = {epsilon:g}" + (" (the paper's)" if epsilon == PAPERS else "")
            axis.plot([epoch["epoch"] for epoch in epochs], values, marker="o", label=label)
        axis.set(xlabel="epochs of search done", title=title)
        axis.grid(alpha=0.3)
    axes[0].axhline(0, color="black", linewidth=0.5)
    axes[1].set_yscale("log")
    axes[1].axhline(1, color="black", linewidth=0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle("Hessian-vector product by finite differences, r = ε/|v|: digits, float64")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer epochs, cells and channels: under a minute")
    parser.add_argument("--plot", type=new_file, help="write the curves to this PNG")
    args = parser.parse_args()
    channels, layers, num_epochs, num_batches = (4, 3, 2, 1) if args.quick else (8, 4, 8, 2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = World(torch.device("cpu"))
    data = load_dataset("digits", Path(), image_size=8)
    weight_source, alpha_source, _ = search_sources(data, SearchDataConfig(dataset="digits", batch_size=32), 0, world)
    supernet: Any = build_supernet("plain", channels, layers, 10)
    supernet.init_channels, supernet.layers = channels, layers
    optimizer = build_sgd(supernet.weights(), SearchOptimConfig(), fused=True)
    architect = Architect(supernet, learning_rate=0.03, weight_decay=1e-3, unrolled_method=None, world=world)

    epochs = []
    for epoch in range(num_epochs):
        set_learning_rate(optimizer, cosine_learning_rate(epoch, num_epochs, 0.025, 0.001))
        for step in range(weight_source.steps_per_epoch if not args.quick else 4):
            train, valid = weight_source.batch(epoch, step)[:2], alpha_source.batch(epoch, step)[:2]
            numbers = search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=world)
        batches = [(weight_source.batch(99, i)[:2], alpha_source.batch(99, i)[:2]) for i in range(num_batches)]
        compared = measure(supernet, optimizer, batches, world)
        means = {
            epsilon: {name: sum(each[name] for each in every) / len(every) for name in every[0]}
            for epsilon, every in compared.items()
        }
        epochs.append({"epoch": epoch + 1, "loss": numbers.loss.item(), "epsilon": means})
        shown = ", ".join(f"{epsilon}: {means[epsilon]['cosine']:.3f}" for epsilon in means)
        print(f"epoch {epoch + 1}: loss {numbers.loss.item():.3f}; cosine by epsilon {shown}", flush=True)
    if worst := [e for e in epochs if not e["epsilon"][str(EPSILONS[-1])]["cosine"] > 0.99]:
        raise SystemExit(f"at epsilon {EPSILONS[-1]:g} the formula is not the exact product: {worst}")
    if args.plot:
        plot(epochs, args.plot)
    facts = {"init_channels": channels, "layers": layers, "batch_size": 32, "image_size": 8, "dtype": "float64"}
    print(
        strict_json.dumps(
            {
                "benchmark": "unrolled_error",
                **facts,
                "torch": torch.__version__,
                "machine": machine(world.device, 1),
                "epochs": epochs,
            }
        )
    )


if __name__ == "__main__":
    run(main)
