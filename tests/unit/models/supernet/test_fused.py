"""The Triton kernels of the fused supernet: by Triton's interpreter they equal torch in float64, and they compile."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ranks import on_ranks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from darts_hpc.models import layout
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet, choose_supernet
from darts_hpc.models.supernet.fast.fused import FusedCell
from darts_hpc.models.supernet.fast.kernels import channel_sums, launching, stage_convolutions, stage_pools

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
LABELS = torch.tensor([1])


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Return function(*args) of a process in which Triton interprets its kernels instead of compiling them."""
    with subprocess.Popen(
        [sys.executable, __file__, serve.__name__, "[]"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin is not None and server.stdout is not None
        ask, answers = server.stdin, server.stdout

        def interpreted(function: Callable, *args) -> Any:
            print(json.dumps((function.__name__, args)), file=ask, flush=True)
            error, value = json.loads(answers.readline())
            assert not error, error
            return value

        yield interpreted
        ask.close()


def serve() -> str:
    """Answer requests for a function's value line by line, each from a fork of this process."""
    from triton.runtime import interpreter

    from darts_hpc.models.supernet.fast.kernels import batch_norms, pools, separable  # noqa: F401

    # Triton's language is patched once per function, and stays so: anew for each call it takes a quarter of the time
    interpreter._patch_lang = functools.cache(interpreter._patch_lang)  # pyright: ignore[reportPrivateUsage]
    interpreter._LangPatchScope.restore = lambda self: None  # pyright: ignore[reportPrivateUsage]
    for request in sys.stdin:
        if os.fork():
            os.wait()
            continue
        name, args = json.loads(request)
        try:
            answer = None, globals()[name](*args)
        except BaseException:
            answer = traceback.format_exc(), None
        print(json.dumps(answer), flush=True)
        os._exit(0)
    return "end"


def errors(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> list[float]:
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, theirs, strict=True)]


def norms(*channels: int) -> list[nn.BatchNorm2d]:
    made = [nn.BatchNorm2d(count, affine=False).double() for count in channels]
    for norm in made:
        norm.num_batches_tracked = None
    return made


def statistics(*of: nn.BatchNorm2d) -> list[Tensor]:
    return [tensor.clone() for norm in of for tensor in (norm.running_mean, norm.running_var) if tensor is not None]


def sum_in_turns() -> None:
    """Let small inputs loop over partial sums and over tiles, as those of a real batch do."""
    stage_convolutions.CHUNKS = 2
    launching.FINISH["ROWS"] = 4


def convolutions(x, depthwise3, depthwise5, pointwise, mixing_weights, sizes, half_norm: Any, out_norm: Any) -> Tensor:
    """The branches one by one, as the original computes them."""
    states, edges, stride = sizes
    c = x.shape[1] // states
    totals: list = [0] * edges
    half_mean, half_variance, out_mean, out_variance = (
        tensor.split(c) for norm in (half_norm, out_norm) for tensor in (norm.running_mean, norm.running_var)
    )

    def pair(inputs: Tensor, role: int, edge: int, kind: int, stride: int, dilation: int) -> Tensor:
        depthwise = (depthwise3, depthwise5)[kind][role, edge].unsqueeze(1)
        padding = dilation * (depthwise.shape[-1] // 2)
        z = F.conv2d(inputs, depthwise, None, stride, padding, dilation, c)
        return F.conv2d(z, pointwise[role, edge, kind][:, :, None, None])

    branches = 2 * states * edges
    for edge in range(states * edges):
        rectified = F.relu(x.split(c, 1)[edge // edges])
        for kind in range(2):
            branch = 2 * edge + kind
            half = pair(rectified, 0, edge, kind, stride, 1)
            half = F.relu(F.batch_norm(half, half_mean[branch], half_variance[branch], training=True))
            for place, raw in (
                (branch, pair(rectified, 1, edge, kind, stride, 2)),
                (branches + branch, pair(half, 2, edge, kind, 1, 1)),
            ):
                share = mixing_weights.split(c)[place][:, None, None]
                normed = F.batch_norm(raw, out_mean[place], out_variance[place], training=True)
                totals[edge % edges] = totals[edge % edges] + share * normed
    return torch.stack(totals, 1)


def compare_convolutions(states: int, edges: int, stride: int, c: int, side: int) -> tuple[list[float], list[float]]:
    sum_in_turns()
    torch.manual_seed(0)
    branches = 2 * states * edges
    shapes = (
        (2, states * c, side, side), (3, states * edges, c, 3, 3), (3, states * edges, c, 5, 5),
        (3, states * edges, 2, c, c), (2 * branches * c,),
    )  # fmt: skip
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    x, depthwise3, depthwise5, pointwise, mixing_weights = inputs
    ours, theirs = norms(branches * c, 2 * branches * c), norms(branches * c, 2 * branches * c)
    sizes = (states, edges, stride)
    taps = [weight.flatten(3).transpose(2, 3).contiguous() for weight in (depthwise3, depthwise5)]
    got = stage_convolutions.stage_convolutions(x, taps[0], taps[1], pointwise, mixing_weights, sizes, ours[0], ours[1])
    expected = convolutions(x, depthwise3, depthwise5, pointwise, mixing_weights, sizes, theirs[0], theirs[1])
    towards = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, inputs, towards) for out in (got, expected)]
    of_results = errors((got, *gradients[0]), (expected, *gradients[1]))
    return of_results, errors(tuple(statistics(*ours)), tuple(statistics(*theirs)))


@needs_triton
@pytest.mark.parametrize(
    ("states", "edges", "stride", "c", "side"),
    [(1, 1, 1, 3, 5), (2, 2, 2, 3, 5), (1, 2, 2, 16, 4), (1, 1, 1, 4, 12)],
)
def test_a_stage_of_convolutions_and_its_gradients_equal_torchs(interpreted, states, edges, stride, c, side):
    of_results, of_statistics = interpreted(compare_convolutions, states, edges, stride, c, side)
    assert max(of_results) < 1e-12 and max(of_statistics) < 1e-12


def compare_pools(states: int, edges: int, stride: int, c: int, side: int) -> tuple[list[float], list[float]]:
    sum_in_turns()
    torch.manual_seed(0)
    kinds, others = 3 if stride == 1 else 2, 5
    x = torch.randint(-3, 4, (3, states * c, side, side)).double().requires_grad_()  # windows with several largest
    mixing_weights = torch.randn(edges * kinds * states, dtype=torch.float64, requires_grad=True)
    (ours,), (theirs,) = norms(others + 2 * states * c), norms(others + 2 * states * c)
    got = stage_pools.stage_pools(x, mixing_weights, (states, edges, stride), ours)
    pooled = torch.cat((F.max_pool2d(x, 3, stride, 1), F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)), 1)
    assert theirs.running_mean is not None and theirs.running_var is not None
    parts = F.batch_norm(pooled, theirs.running_mean[others:], theirs.running_var[others:], training=True)
    parts = torch.cat((parts, x), 1) if stride == 1 else parts
    expected = torch.einsum("ek,bkchw->bechw", mixing_weights.view(edges, -1), parts.unflatten(1, (kinds * states, c)))
    towards = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, (x, mixing_weights), towards) for out in (got, expected)]
    of_results = errors((got, *gradients[0]), (expected, *gradients[1]))
    return of_results, errors(tuple(statistics(ours)), tuple(statistics(theirs)))


@needs_triton
@pytest.mark.parametrize(
    ("states", "edges", "stride", "c", "side"), [(1, 1, 1, 3, 5), (2, 3, 2, 3, 7), (2, 4, 2, 4, 4), (2, 2, 1, 16, 12)]
)
def test_pools_and_skips_and_their_gradients_equal_torchs_also_where_several_are_largest(
    interpreted, states, edges, stride, c, side
):
    of_results, of_statistics = interpreted(compare_pools, states, edges, stride, c, side)
    assert max(of_results) < 1e-12 and max(of_statistics) < 1e-12


def probe_here() -> str:
    from darts_hpc.models.supernet.fast.kernels import separable
    from darts_hpc.models.supernet.fast.kernels.probe import probe

    probe(torch.device("cpu"), 24)
    separable.tl.store = lambda *args, **kwargs: None
    try:
        probe(torch.device("cpu"), 24)
    except RuntimeError as error:
        return str(error)
    return "nothing"


@needs_triton
def test_the_probe_passes_where_kernels_work_and_notices_where_they_write_nothing(interpreted):
    assert interpreted(probe_here) == "a kernel gave a wrong result"


def nan_pixels() -> list[bool]:
    """Whether NaNs come out of convolutions and pools where they come out of torch's, one being in a state."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    x[0, 1, 2, 3] = float("nan")
    half, out = (norm.eval() for norm in norms(4, 12))
    weights = [torch.randn(shape).double() for shape in ((3, 1, 2, 3, 3), (3, 1, 2, 5, 5), (3, 1, 2, 2, 2))]
    taps = [weight.flatten(3).transpose(2, 3).contiguous() for weight in weights[:2]]
    mixing_weights = torch.tensor([1.0, 1.0, 0, 0, 1, 1, 0, 0]).double()  # the 3x3 ones alone
    convolved = stage_convolutions.stage_convolutions(
        x, taps[0], taps[1], weights[2], mixing_weights, (1, 1, 1), half, out
    )
    expected = F.relu(x)
    dilated = F.conv2d(expected, weights[0][1, 0].unsqueeze(1), None, 1, 2, 2, 2).sum(1)
    pooled = stage_pools.stage_pools(x, torch.tensor([1.0, 0, 0]).double(), (1, 1, 1), out)
    return [
        bool((convolved.isnan().any(2)[0, 0] | ~dilated.isnan()[0]).all()),
        torch.equal(pooled[:, 0].isnan(), F.max_pool2d(x, 3, 1, 1).isnan()),
    ]


@needs_triton
def test_a_nan_is_not_swallowed(interpreted):
    assert interpreted(nan_pixels) == [True, True]


def supernet(kind: str, layers: int, **options) -> RelaxedNetwork:
    """A reduction cell, whose edges have both strides, and normal ones after it."""
    layout.reduction_layers = lambda layers: (0, 0)
    torch.manual_seed(0)
    built = build_supernet(kind, 2, layers, 5, **options).double()
    with torch.no_grad():
        for alpha in built.alphas():
            alpha.normal_()
    return built


def images() -> Tensor:
    return torch.randn(len(LABELS), 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()


def pass_through(net: RelaxedNetwork) -> dict[str, Tensor]:
    """Gradients of a pass in training with weights of its own, as a virtual step has them, by the original's names.

    And the state after it, and the output in evaluation.
    """
    weights = {name: weight.detach().requires_grad_() for name, weight in net.named_weights().items()}
    loss = F.cross_entropy(torch.func.functional_call(net, weights, images()), LABELS)
    alphas = {
        name: alpha for name, alpha in net.named_alphas().items() if name == "alphas_reduce" or len(net.cells) > 1
    }
    gradients = torch.autograd.grad(loss, [*weights.values(), *alphas.values()])
    named = net.original_layout(dict(zip(net.named_weights(), gradients, strict=False)))
    state = {f"state {name}": tensor for name, tensor in net.state_dict().items()}
    alphas = dict(zip(alphas, gradients[len(weights) :], strict=True))
    with torch.no_grad():
        evaluated = net.eval()(images())
    return {"loss": loss.detach(), **named, **alphas, **state, "evaluated": evaluated}


def compare_supernets(checkpoint_cells: bool) -> dict[str, float]:
    launches = 0
    launch = stage_convolutions.launch

    def counted(*args, **kwargs):
        nonlocal launches
        launches += 1
        launch(*args, **kwargs)

    stage_convolutions.launch = counted
    ours = pass_through(supernet("fused", 1, checkpoint_cells=checkpoint_cells))
    assert launches > 0
    theirs = pass_through(supernet("stacked", 1))
    assert ours.keys() == theirs.keys()
    scales = {name: tensor.double().abs().max().clamp_min(1e-3) for name, tensor in theirs.items()}
    return {name: ((ours[name] - theirs[name]).abs().max() / scales[name]).item() for name in ours}


@needs_triton
@pytest.mark.slow
def test_a_fused_cell_that_is_recomputed_equals_the_stacked_one_in_training_and_evaluation(interpreted):
    difference = interpreted(compare_supernets, True)
    worst = max(difference, key=lambda name: difference[name])
    assert difference[worst] < 1e-9, worst


def second_derivative() -> tuple[list[float], bool]:
    """The gradient of a gradient of both forms, cells recomputed, and whether the fused one is back at its kernels."""
    results = []
    for kind in ("stacked", "fused"):
        net = supernet(kind, 2, checkpoint_cells=True)
        with frozen_running_statistics(net), net.differentiable_twice():
            loss = F.cross_entropy(net(images()), LABELS)
            first = torch.autograd.grad(loss, net.weights(), create_graph=True)
            results.append(torch.autograd.grad(first[0].square().sum(), net.alphas()))
    cells = [cell for cell in net.cells if isinstance(cell, FusedCell)]
    return errors(*results), not any(cell.differentiable_twice for cell in cells)


@needs_triton
def test_a_gradient_can_be_differentiated_again_where_that_is_asked_for(interpreted):
    difference, went_back = interpreted(second_derivative)
    assert max(difference) < 1e-12 and went_back


def refuses_double_backward() -> str:
    (norm,) = norms(4)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    out = stage_pools.stage_pools(x, torch.ones(3, dtype=torch.float64), (1, 1, 1), norm)
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    try:
        gradient.sum().backward()
    except RuntimeError as error:
        return str(error)
    return "differentiated"


@needs_triton
def test_a_kernels_gradient_is_never_differentiated_by_mistake(interpreted):
    assert "once_differentiable" in interpreted(refuses_double_backward)


def compiled_for_a_gpu(capability: int, autocast: bool) -> list[str]:
    """Compile what a gradient of the default supernet launches for a GPU that need not be there; return the kernels.

    Of a kernel's variants that differ but in sizes, the one with the most channels; in bfloat16 with the fewest.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    variants: dict[tuple, list[tuple]] = {}

    def record(kernel: Any, grid: tuple, *args: Any, **meta: Any) -> None:
        names = kernel.arg_names
        of_type = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int8: "*i8"}
        given = {**dict(zip(names, args, strict=False)), **meta}
        constants = {name: given[name] for name in names if kernel.params[names.index(name)].is_constexpr}
        signature = {
            name: "constexpr" if name in constants else of_type[value.dtype] if isinstance(value, Tensor) else "i32"
            for name, value in given.items()
        }
        switches = {name: value for name, value in constants.items() if isinstance(value, bool)}
        variant = kernel, {name: signature[name] for name in names}, constants
        variants.setdefault((kernel.__name__, str(switches)), []).append(variant)

    callers: tuple[Any, ...] = (channel_sums, stage_convolutions, stage_pools)
    for caller in callers:
        caller.launch = record
    torch.backends.cuda.matmul.allow_tf32 = True
    with torch.device("meta"):
        net = build_supernet("fused", 16, 3, 10)
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        net._apply(lambda old: torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device="cpu"))
        torch.autograd.grad(net(torch.empty(64, 3, 32, 32)).sum(), [*net.weights(), *net.alphas()])
    choose = min if autocast else max
    chosen = [choose(group, key=lambda variant: variant[2].get("C", 0)) for group in variants.values()]
    assert autocast == any("*bf16" in signature.values() for _, signature, _ in chosen)
    for kernel, signature, constants in chosen:
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if name.endswith("_ptr")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=places, attrs=aligned)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
    return sorted({kernel.__name__ for kernel, _, _ in chosen})


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True])
def test_every_kernel_compiles_for_a_gpu_in_tf32_and_in_bfloat16(autocast):
    assert on_ranks(1, compiled_for_a_gpu, 90, autocast)[0] == [
        "convolve", "depthwise_backward", "depthwise_weight_gradient", "finish_gradients", "finish_mixed_gradients",
        "finish_statistics", "mix", "pointwise_backward", "pool", "pool_backward", "sum_gradients", "sum_into_nodes",
        "sum_mixed_gradients", "unmix",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "channels", "torch_only", "why"),
    [
        ("cpu", 16, None, None),  # as --help says
        ("cuda", 34, None, "the fast supernet's kernels support at most 32 init_channels: taking its stacked form"),
        ("cuda", 16, "do not", "the fast supernet's kernels do not: taking its stacked form"),
    ],
)
def test_where_the_kernels_can_not_be_used_torch_computes_and_the_log_says_why(device, channels, torch_only, why):
    assert choose_supernet("fast", torch.device(device), channels, torch_only=torch_only) == ("stacked", why)


def test_a_triton_that_fails_is_reported_and_not_used(monkeypatch):
    def fail(device, channels):
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr("darts_hpc.models.supernet.fast.fused.probe", fail)
    form, why = choose_supernet("auto", torch.device("cuda"), 16)
    assert form == "stacked"
    assert "kernels need Triton, which fails here (Failed to find C compiler): taking its stacked form" in (why or "")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
