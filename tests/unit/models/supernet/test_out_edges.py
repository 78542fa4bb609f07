"""The out-edges of a state computed together are the same function as each edge on its own."""

import copy

import pytest
import torch
from torch import nn

from darts_hpc.models.supernet import out_edges as out_edges_module
from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State
from darts_hpc.models.supernet.out_edges import MOST_CHANNELS, can_run_together, run_out_edges
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

EDGES = {
    "darts": (PRIMITIVES,) * 3,
    "each edge its own": (
        ("skip_connect", "sep_conv_3x3", "noise"),
        ("none", "max_pool_3x3", "dil_conv_5x5", "sep_conv_3x3"),
        ("max_pool_3x3", "conv_7x1_1x7", "skip_connect"),
    ),
    "a candidate twice": (("sep_conv_3x3", "avg_pool_3x3", "sep_conv_3x3", "skip_connect", "avg_pool_3x3"),) * 2,
}


def out_edges(kind: str, stride: int, channels: int = 8) -> list[MixedOp]:
    torch.manual_seed(0)
    return [MixedOp(channels, stride, primitives, partial_channels=2).double() for primitives in EDGES[kind]]


def together(state: State, ops: list[MixedOp], weights: list[torch.Tensor]) -> list[torch.Tensor]:
    assert can_run_together(state, ops)
    nodes = [NodeSum(2) for _ in ops]
    run_out_edges(state, ops, weights, nodes)
    return [node.total() for node in nodes]


def one_by_one(state: State, ops: list[MixedOp], weights: list[torch.Tensor]) -> list[torch.Tensor]:
    nodes = [NodeSum(2) for _ in ops]
    for op, row, node in zip(ops, weights, nodes, strict=True):
        op(state, row, node)
    return [node.total() for node in nodes]


def image(*sides: int, channels: int = 8) -> torch.Tensor:
    x = torch.randn(3, channels, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (5, 6)], ids=["even", "odd"])
@pytest.mark.parametrize("kind", EDGES)
def test_together_they_give_each_edges_output_gradients_and_running_statistics(kind, sides, stride):
    ops, x = out_edges(kind, stride), image(*sides)
    apart, keys = copy.deepcopy(ops), torch.tensor([3, 1, 2])
    weights = [torch.rand(len(p), dtype=torch.float64).softmax(-1).requires_grad_() for p in EDGES[kind]]
    found, expected = together(State(x, keys, 2), ops, weights), one_by_one(State(x, keys, 2), apart, weights)
    gradients = []
    for outputs, modules in ((found, ops), (expected, apart)):
        loss = torch.stack([(output * (edge + 1)).sin().sum() for edge, output in enumerate(outputs)]).sum()
        wanted = [x, *weights, *(weight for op in modules for weight in op.parameters())]
        gradients.append(torch.autograd.grad(loss, wanted))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)
    for op, own in zip(ops, apart, strict=True):
        torch.testing.assert_close(dict(op.named_buffers()), dict(own.named_buffers()))


class Tripled(nn.Identity):
    """A candidate of one's own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 3 * input


def test_a_candidate_of_ones_own_is_called():
    ops = out_edges("darts", 1)
    ops[0]._ops[3] = Tripled()
    weights = [torch.ones(len(PRIMITIVES), dtype=torch.float64)] * 3
    torch.testing.assert_close(*(run(State(image(8, 8), None, 2), ops, weights) for run in (together, one_by_one)))


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_cell_has_the_same_second_derivatives(recomputed, monkeypatch):
    found = []
    for most in (MOST_CHANNELS, 0):
        monkeypatch.setattr(out_edges_module, "MOST_CHANNELS", most)
        torch.manual_seed(0)
        network = SuperNet(4, 3, 5, 2, partial_channels=2, edge_norm=True, checkpoint_cells=recomputed).double()
        loss = network(image(4, 4, channels=3)).square().sum()
        gradients = torch.autograd.grad(loss, network.alphas()[:2], create_graph=True)
        curvature = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        found.append((gradients, torch.autograd.grad(curvature, network.weights())))
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


def test_a_convolution_with_a_hook_is_called():
    ops, calls = out_edges("darts", 1), []
    ops[1].get_submodule("_ops.4.op.1").register_forward_hook(lambda *args: calls.append(1))
    weights = [torch.ones(len(PRIMITIVES), dtype=torch.float64)] * 3
    found, expected = (run(State(image(8, 8), None, 2), ops, weights) for run in (together, one_by_one))
    torch.testing.assert_close(found, expected)
    assert calls == [1, 1]


@pytest.mark.parametrize("broken", ["wide", "evaluating", "without gradients", "norm of ranks", "all channels"])
def test_they_run_one_by_one_where_together_would_not_serve(broken):
    channels = 2 * MOST_CHANNELS + 2 if broken == "wide" else 8
    ops, state = out_edges("darts", 1, channels), State(image(8, 8, channels=channels), None, 2)
    assert not can_run_together(state, [])
    assert can_run_together(state, ops) == (broken != "wide")
    if broken == "evaluating":
        ops[0].eval()
    if broken == "norm of ranks":
        for op in ops:
            nn.SyncBatchNorm.convert_sync_batchnorm(op)
    if broken == "all channels":
        state = State(image(8, 8))
    with torch.set_grad_enabled(broken != "without gradients"):
        assert not can_run_together(state, ops)


def test_they_need_fewer_convolutions(monkeypatch):
    ops, x, weights = out_edges("darts", 1), image(8, 8), [torch.rand(8, dtype=torch.float64)] * 3
    calls, convolve = [], nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "conv2d", lambda *args, **kwargs: calls.append(1) or convolve(*args, **kwargs))
    for run, expected in ((together, 4 * 2 + 2 * 2 + 1), (one_by_one, 3 * (4 * 2 + 2 * 2))):
        calls.clear()
        run(State(x, None, 2), ops, weights)
        assert len(calls) == expected
