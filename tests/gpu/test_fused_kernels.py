"""The Triton kernels on a GPU: as exact as torch's operations are, and the same bits every time."""

import pytest
import torch
import torch.nn.functional as F

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet, choose_supernet
from darts_hpc.models.supernet.fast.kernels.stage_convolutions import stage_convolutions
from darts_hpc.models.supernet.fast.kernels.stage_pools import stage_pools
from darts_hpc.search.hypergradient import UNROLLED_GRADIENTS, full_float32

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda:0")


def supernet(kind: str, channels: int, dtype: torch.dtype = torch.float32, **options) -> RelaxedNetwork:
    torch.manual_seed(0)
    built = build_supernet(kind, channels, 4, 5, **options)
    with torch.no_grad():
        for alpha in built.alphas():
            alpha.normal_()
    return built.to(GPU, dtype)


def images(side: int, number: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    pixels, labels = torch.randn(number, 3, side, side, generator=draw), torch.randint(5, (number,), generator=draw)
    return pixels.to(GPU), labels.to(GPU)


def pass_through(net: RelaxedNetwork, side: int, number: int = 8) -> dict[str, torch.Tensor]:
    """Loss, gradients, running statistics and output in evaluation, in float64."""
    pixels, labels = images(side, number)
    pixels = pixels.to(net.alphas()[0].dtype)
    loss = F.cross_entropy(net(pixels).float(), labels)
    gradients = torch.autograd.grad(loss, [*net.weights(), *net.alphas()])
    weights = net.original_layout(dict(zip(net.named_weights(), gradients, strict=False)))
    statistics = {name: tensor for name, tensor in net.state_dict().items() if "running" in name}
    with torch.no_grad():
        evaluated = net.eval()(pixels)
    joined = {
        "loss": loss,
        "weights": torch.cat([part.flatten() for part in weights.values()]),
        "alphas": torch.cat([part.flatten() for part in gradients[-2:]]),
        "statistics": torch.cat([part.flatten() for part in statistics.values()]),
        "evaluated": evaluated,
    }
    return {name: tensor.detach().double() for name, tensor in joined.items()}


def errors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: ((found[name] - expected[name]).norm() / expected[name].norm()).item() for name in expected}


# A rounding error can send a gradient another way at a ReLU or among a window's largest.
CLOSE = {"loss": 1e-5, "statistics": 1e-5, "evaluated": 1e-4, "weights": 5e-3, "alphas": 5e-3}


@pytest.mark.parametrize(("channels", "side", "number"), [(16, 32, 64), (4, 16, 8), (10, 15, 8), (32, 8, 8)])
@pytest.mark.parametrize("checkpoint_cells", [False, True])
def test_in_float32_they_are_near_torchs_operations_in_float64(channels, side, number, checkpoint_cells):
    expected = pass_through(supernet("stacked", channels, torch.float64), side, number)
    with full_float32():
        found = pass_through(supernet("fused", channels, checkpoint_cells=checkpoint_cells), side, number)
    for name, error in errors(found, expected).items():
        assert error < CLOSE[name], (name, error)


@pytest.mark.parametrize("autocast", [False, True])
def test_with_tf32_and_bfloat16_they_are_as_near_as_torchs_operations(autocast, monkeypatch):
    expected = pass_through(supernet("stacked", 16, torch.float64), 32)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast, cache_enabled=False):
        ours = errors(pass_through(supernet("fused", 16), 32), expected)
        theirs = errors(pass_through(supernet("stacked", 16), 32), expected)
    for name, error in ours.items():
        assert error < max(2 * theirs[name], CLOSE[name]), (name, error, theirs[name])


@pytest.mark.parametrize("method", UNROLLED_GRADIENTS)
def test_unrolled_alpha_gradients_are_near_those_of_torchs_operations_in_float64(method):
    gradients = []
    for kind, dtype in (("fused", torch.float32), ("stacked", torch.float64)):
        net = supernet(kind, 16, dtype)
        optimizer = torch.optim.SGD(net.weights(), 0.025, momentum=0.9, weight_decay=3e-4)
        train, valid = ((images(32)[0].to(dtype) + shift, images(32)[1]) for shift in (0, 1))
        with full_float32():
            alphas = UNROLLED_GRADIENTS[method](net, train, valid, optimizer, F.cross_entropy, World(GPU))
        gradients.append(torch.cat([part.flatten() for part in alphas]).double())
    found, expected = gradients
    assert F.cosine_similarity(found, expected, 0) > 0.99  # rounding sends some ReLUs another way


def test_what_the_kernels_give_repeats_to_the_bit():
    """That of the whole network need not: cuDNN adds up in any order."""
    torch.manual_seed(0)
    norms = [torch.nn.BatchNorm2d(count, affine=False).to(GPU) for count in (256, 576)]
    shapes = (8, 32, 32, 32), (3, 8, 9, 16), (3, 8, 25, 16), (3, 8, 2, 16, 16), (512,), (4 * 3 * 2,)
    x, depthwise3, depthwise5, pointwise, mixing_weights, mixing_weights = (
        torch.randn(shape, device=GPU, requires_grad=True) for shape in shapes
    )
    inputs, runs = [x, depthwise3, depthwise5, pointwise, mixing_weights, mixing_weights], []
    for _ in range(2):
        out = stage_convolutions(x, depthwise3, depthwise5, pointwise, mixing_weights, (2, 4, 1), *norms)
        out = out + stage_pools(x, mixing_weights, (2, 4, 1), norms[1])
        runs.append([out, *torch.autograd.grad(out.sin().sum(), inputs)])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_they_are_what_auto_means():
    assert choose_supernet("auto", GPU, 16) == ("fused", None)
