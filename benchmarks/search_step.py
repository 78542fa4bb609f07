"""Time one search step against the 2018 structure, and count what a GPU would launch and keep.

    python benchmarks/search_step.py [--quick] [--threads 2] [--repeats 5] [--compile]

Ours is the step as a search runs it: on a GPU the fused supernet as one CUDA graph, beside which an eager one, a
bfloat16 one and the stacked supernet are timed, and --compile times compiled cells. All are built from the same
weights, and alpha gradients are compared in float64, the fused supernet's in float32, before anything is timed. Steps
are interleaved, times are medians. The last line is one JSON object.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from command import device_here, run, whole_number
from count_operations import CountOperations
from machine import machine
from original_search import OriginalSearch, OriginalSuperNet
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from darts_hpc import strict_json
from darts_hpc.config.train_search import SearchOptimConfig, SearchRuntimeConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet, choose_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.training.cuda_graph import WARM_UP_STEPS
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_step import build_search_step
from darts_hpc.training.seeding import seed_everything

CLASSES = 10


class Search:
    """A supernet of ours with its optimizers."""

    def __init__(
        self,
        kind: str,
        unrolled: bool,
        sizes: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        speed: SearchRuntimeConfig | None = None,
    ):
        torch.manual_seed(0)
        world = World(device)
        self.supernet = build_supernet(kind, *sizes, CLASSES).to(device, dtype)
        self.format = torch.channels_last if kind == "plain" else torch.contiguous_format
        self.supernet.to(memory_format=self.format)  # pyright: ignore[reportCallIssue]
        self.optimizer = build_sgd(self.supernet.weights(), SearchOptimConfig(), fused=True)
        method = "finite_difference" if unrolled else None
        self.architect = Architect(
            self.supernet, learning_rate=3e-4, weight_decay=1e-3, unrolled_method=method, world=world
        )
        self.step = build_search_step(
            self.supernet, self.architect, self.optimizer,
            grad_clip=5.0, world=world, cfg=speed or SearchRuntimeConfig(),
        )  # fmt: skip

    def alpha_gradient(self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> list[Tensor]:
        return self.architect.gradient(train, valid, self.optimizer)


def original(
    unrolled: bool, sizes: tuple[int, int], channels_last: bool, dtype: torch.dtype, device: torch.device
) -> OriginalSearch:
    torch.manual_seed(0)
    supernet = OriginalSuperNet(*sizes, CLASSES).to(device, dtype)
    return OriginalSearch(supernet, unrolled, channels_last)


def batches(
    batch_size: int, side: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    train, valid = (
        (
            torch.randn(batch_size, 3, side, side, generator=draw)
            .to(device, dtype)
            .contiguous(memory_format=torch.channels_last),
            torch.randint(CLASSES, (batch_size,), generator=draw).to(device),
        )
        for _ in range(2)
    )
    return train, valid


def check_same_gradients(kinds: tuple[str, ...]) -> dict[str, float]:
    """Compare alpha gradients in float64 after one step, so that momentum is there; return relative errors."""
    errors, cpu = {}, torch.device("cpu")
    sizes, data = (4, 3), batches(4, 8, torch.float64, cpu)
    for unrolled in (False, True):
        baseline = original(unrolled, sizes, False, torch.float64, cpu)
        baseline.step(*data)
        expected = torch.cat(baseline.alpha_gradient(*data))
        for kind in kinds:
            ours = Search(kind, unrolled, sizes, torch.float64, cpu)
            ours.step(*data)
            error = ((torch.cat(ours.alpha_gradient(*data)) - expected).norm() / expected.norm()).item()
            errors[f"{kind}_{'unrolled' if unrolled else 'first_order'}"] = error
            if not error < 1e-7:
                raise SystemExit(f"the {kind} supernet's alpha gradient differs from the original's by {error:.1e}")
    return errors


def check_fused_gradients(device: torch.device) -> dict[str, float]:
    """Compare alpha gradients of the Triton kernels in float32 with the original's in float64; return the errors."""
    sizes, cpu, errors = (16, 3), torch.device("cpu"), {}  # of the kernels that are timed: each size is compiled
    # rounding sends some ReLUs another way; torch's own operations in float32 are as far off, 3e-4 and 2e-2 on a CPU
    for name, unrolled, bound in (("first_order", False, 1e-2), ("unrolled", True, 0.1)):
        baseline = original(unrolled, sizes, False, torch.float64, cpu)
        expected = torch.cat(baseline.alpha_gradient(*batches(4, 32, torch.float64, cpu)))
        ours = Search("fused", unrolled, sizes, torch.float32, device, SearchRuntimeConfig(tf32=False))
        found = torch.cat(ours.alpha_gradient(*batches(4, 32, torch.float32, device))).double().cpu()
        error = errors[f"fused_float32_{name}"] = ((found - expected).norm() / expected.norm()).item()
        if not error < bound:
            raise SystemExit(f"the fused supernet's alpha gradient ({name}) differs from the original's by {error:.1e}")
    return errors


def count_kernels(step: Callable[[], object]) -> int:
    """Return how many kernels, copies and fills a step runs on a GPU."""
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as recorded:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type.name == "CUDA" for event in recorded.events() or ())


def count_operations(search: Search | OriginalSearch, data: tuple) -> int:
    search.step(*data)  # the first step makes the optimizers' state
    with CountOperations() as counted:
        search.step(*data)
    return counted.total()


def saved_bytes(build: Callable[[], torch.nn.Module], batch_size: int) -> int:
    """Return the bytes that one forward pass keeps for backward, parameters aside; nothing is allocated."""
    with FakeTensorMode():
        model = build()
        own = {p.untyped_storage()._cdata for p in model.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # held, so that its address is not given to another
            return tensor

        labels = torch.zeros(batch_size, dtype=torch.int64)
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = F.cross_entropy(model(torch.randn(batch_size, 3, 32, 32)), labels)
        del loss
        return sum(storage.nbytes() for storage in kept.values())


def interleaved_medians(
    searches: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return each one's median seconds per step, taking turns, after the steps before a capture, or one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(-1, repeats):
        for name, step in searches.items():
            is_ours = name not in ("nchw", "channels_last")
            for _ in range(WARM_UP_STEPS if turn < 0 and is_ours and device.type == "cuda" else 0):
                step()
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller supernet and batch: under a minute")
    parser.add_argument("--threads", type=whole_number, default=2)
    parser.add_argument("--repeats", type=whole_number, help="timed steps of each; 5, or 1 when quick")
    parser.add_argument("--compile", action="store_true", help="time compiled cells too, after minutes of compiling")
    parser.add_argument("--times_only", action="store_true", help="skip counts, which are the same on every machine")
    parser.add_argument("--device", type=device_here, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    repeats = args.repeats or (1 if args.quick else 5)
    seed_everything(0, deterministic=False)  # cuDNN tries its algorithms, as in a search and in the original
    torch.set_num_threads(1)  # tiny tensors: waking a second thread costs more than it gives
    device: torch.device = args.device
    sizes, batch_size = ((16, 3), 12) if args.quick else ((16, 8), 64)
    kind, fallback = choose_supernet("auto", device, sizes[0])
    if fallback:
        print(fallback)

    errors = check_same_gradients(("plain", "stacked"))
    if kind == "fused":
        errors |= check_fused_gradients(device)
    print("alpha gradients equal the original's; relative errors:", errors)

    result: dict[str, object] = {
        "benchmark": "search_step",
        "machine": machine(device, args.threads),
        "torch": torch.__version__,
    }
    torch.set_num_threads(args.threads)
    data = batches(batch_size, 32, torch.float32, device)
    speeds = {"ours": (kind, SearchRuntimeConfig())}
    if device.type == "cuda":
        speeds["eager"] = kind, SearchRuntimeConfig(cuda_graph=False)
        speeds["bf16"] = kind, SearchRuntimeConfig(precision="bf16")
        speeds["stacked"] = "stacked", SearchRuntimeConfig()
    if args.compile:
        speeds["compiled"] = "stacked" if kind == "fused" else kind, SearchRuntimeConfig(compile=True)
    for name, unrolled in (("first_order", False), ("unrolled", True)):
        ours = {who: Search(form, unrolled, sizes, torch.float32, device, cfg) for who, (form, cfg) in speeds.items()}
        nchw, last = (original(unrolled, sizes, flag, torch.float32, device) for flag in (False, True))
        steps: dict[str, Callable[[], object]] = {
            **{who: lambda search=search: search.step(*data) for who, search in ours.items()},
            "channels_last": lambda search=last: search.step(*data),
            "nchw": lambda search=nchw: search.step(*data),
        }
        medians = interleaved_medians(steps, repeats, device)
        for baseline in ("nchw", "channels_last"):
            result[f"{name}_vs_{baseline}"] = round(medians[baseline] / medians["ours"], 3)
        for who in list(speeds)[1:]:
            result[f"{name}_vs_{who}"] = round(medians[who] / medians["ours"], 3)
        result[f"{name}_seconds"] = {who: round(median, 4) for who, median in medians.items()}
        print(f"{name}: seconds per step", result[f"{name}_seconds"])
        if device.type == "cuda":
            result[f"{name}_kernels"] = {who: count_kernels(steps[who]) for who in ("eager", "nchw")}

    if not args.times_only:
        result |= counts(args.quick, sizes)
    result |= {
        "form": kind, "init_channels": sizes[0], "layers": sizes[1], "batch_size": batch_size, "repeats": repeats,
        "gradient_errors": errors,
    }  # fmt: skip
    print(strict_json.dumps(result))


def counts(quick: bool, sizes: tuple[int, int]) -> dict[str, object]:
    """Return how many operations a step has and how many bytes it keeps, the same on every machine."""
    result: dict[str, object] = {}
    torch.set_num_threads(1)
    cpu, few = torch.device("cpu"), batches(2, 8, torch.float32, torch.device("cpu"))  # as many for any side
    for name, unrolled in (("first_order", False), ("unrolled", True)):
        result[f"ops_{name}"] = count_operations(Search("stacked", unrolled, (16, 8), torch.float32, cpu), few)
        if not quick:
            baseline = original(unrolled, (16, 8), False, torch.float32, cpu)
            result[f"ops_{name}_original"] = count_operations(baseline, few)
    plain = saved_bytes(lambda: OriginalSuperNet(*sizes, CLASSES), 64)
    forms: dict[str, dict] = {"saved_bytes_ratio": {"kind": "fused"}}
    if not quick:
        forms["saved_bytes_ratio_checkpoint_cells"] = {"kind": "fused", "checkpoint_cells": True}
        forms["saved_bytes_ratio_stacked"] = {"kind": "stacked"}
        forms["saved_bytes_ratio_plain"] = {"kind": "plain"}
    for key, options in forms.items():
        chosen: dict = {"init_channels": sizes[0], "layers": sizes[1], "num_classes": CLASSES, **options}
        result[key] = round(saved_bytes(lambda chosen=chosen: build_supernet(**chosen), 64) / plain, 4)
    result["saved_bytes_original"] = plain
    return result


if __name__ == "__main__":
    run(main)
