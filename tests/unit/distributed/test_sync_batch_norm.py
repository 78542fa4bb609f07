"""Synchronised BatchNorm on several real processes against torch's own on the joined batch."""

import pytest
import torch
from test_world import said_on_ranks
from torch import nn

from darts_hpc.distributed.sync_batch_norm import SyncBatchNorm2d, synchronise_batch_norm
from darts_hpc.distributed.world import World

NET = """
import copy, torch, torch.nn.functional as F
from torch import nn
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
torch.set_num_threads(1)

def make_net(momentum=0.1):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4, momentum=momentum), nn.BatchNorm2d(3, affine=False, momentum=momentum)]
    net = nn.Sequential(nn.Conv2d(2, 4, 3), norms[0], nn.Tanh(), nn.Sequential(nn.Conv2d(4, 3, 2), norms[1]))
    return net.double()

def flat(tensors):
    return torch.cat([t.detach().flatten().double() for t in tensors])

def close(a, b):
    a, b = flat(a), flat(b)
    return not b.numel() or (a - b).abs().max() <= 1e-12 * max(1, b.abs().max())
"""


def test_two_ranks_equal_one_process_on_the_joined_batch_in_gradients_and_hessian_vector_products():
    out = said_on_ranks(
        NET
        + """
with World.open("cpu") as world:
    alone = make_net()
    synced = synchronise_batch_norm(copy.deepcopy(alone), world)
    assert not world.size == 1 and list(synced.state_dict()) == list(alone.state_dict())
    x = torch.randn(6, 2, 6, 6).double() * 3 + 2
    y = torch.randn(6, 3, 3, 3).double()
    mine = slice(3 * world.rank, 3 * world.rank + 3)
    loss = lambda net, part: (net(x[part]).sin() - y[part]).square().mean()
    weights, expected = list(synced.parameters()), list(alone.parameters())
    vector = [torch.randn_like(w) for w in weights]
    local = torch.autograd.grad(loss(synced, mine), weights, create_graph=True)
    joined = torch.autograd.grad(loss(alone, slice(None)), expected, create_graph=True)
    assert close(world.mean([g.detach() for g in local]), joined)
    hvp = torch.autograd.grad(local, weights, vector)
    assert close(world.mean(hvp), torch.autograd.grad(joined, expected, vector))
    assert not close(hvp, world.mean(hvp))  # each rank has but a part of it
    assert close(synced.buffers(), alone.buffers())
    assert close([synced(x[mine])], [alone(x)[mine]])
    synced.eval(), alone.eval()
    assert close([synced(x[mine])], [alone(x)[mine]])
    print("equal")
""",
    )
    assert out.count("equal") == 2


def test_unequal_and_empty_batches_count_by_their_images():
    out = said_on_ranks(
        NET
        + """
with World.open("cpu") as world:
    alone = make_net(momentum=None)
    synced = synchronise_batch_norm(copy.deepcopy(alone), world)
    for sizes in ([1, 4, 0], [0, 0, 3]):
        x = torch.randn(sum(sizes), 2, 6, 6).double()
        start = sum(sizes[: world.rank])
        mine = slice(start, start + sizes[world.rank])
        out, expected = synced(x[mine]), alone(x)
        assert out.shape[0] == sizes[world.rank] and close([out], [expected[mine]])
        gradients = torch.autograd.grad(out.pow(3).sum(), list(synced.parameters()), create_graph=True)
        joined = torch.autograd.grad(expected.pow(3).sum(), list(alone.parameters()), create_graph=True)
        assert close([world.sum(g.detach()) for g in gradients], joined)
        seconds = torch.autograd.grad(sum(g.sum() for g in gradients), list(synced.parameters()))
        assert close([world.sum(g) for g in seconds],
                     torch.autograd.grad(sum(g.sum() for g in joined), list(alone.parameters())))
        assert close(synced.buffers(), alone.buffers())
    print("equal")
""",
        processes=3,
    )
    assert out.count("equal") == 3


def test_float32_statistics_far_from_zero_keep_their_digits_and_bfloat16_comes_back_as_such():
    """The mean square minus the squared mean, taken in float32, would be off by a tenth here."""
    out = said_on_ranks(
        NET
        + """
with World.open("cpu") as world:
    torch.manual_seed(0)
    x = torch.randn(8, 4, 5, 5) + 1000
    mine = x[4 * world.rank : 4 * world.rank + 4]
    synced = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(4)), world)
    exact = nn.BatchNorm2d(4).double()(x.double())
    error = (synced(mine) - exact[4 * world.rank : 4 * world.rank + 4]).abs().max()
    assert error < 1e-3, error
    with torch.autocast("cpu", torch.bfloat16):
        out = synced(torch.randn(2, 4, 5, 5).bfloat16())
    assert out.dtype == torch.bfloat16 and synced[0].running_mean.dtype == torch.float32
    print("kept")
""",
    )
    assert out.count("kept") == 2


def test_conversion_keeps_parameters_buffers_and_mode():
    two = World(torch.device("cpu"), size=2)
    net = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, affine=False))).eval()
    parameters, buffers, keys = list(net.parameters()), list(net.buffers()), list(net.state_dict())
    converted = synchronise_batch_norm(net, two)
    assert all(isinstance(m, SyncBatchNorm2d) for m in converted.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(a is b for a, b in zip(converted.parameters(), parameters, strict=True))
    assert all(a is b for a, b in zip(converted.buffers(), buffers, strict=True))
    assert list(converted.state_dict()) == keys and not any(m.training for m in converted.modules())
    assert isinstance(synchronise_batch_norm(nn.BatchNorm2d(3), two), SyncBatchNorm2d)


def test_one_process_keeps_the_plain_kind_and_cuda_training_takes_torchs_own():
    assert type(synchronise_batch_norm(nn.BatchNorm2d(3), World(torch.device("cpu")))) is nn.BatchNorm2d
    on_cuda = World(torch.device("cuda:0"), size=2)
    native = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), on_cuda, once_differentiable=True)
    assert isinstance(native, nn.Sequential) and isinstance(native[0], nn.SyncBatchNorm)
    twice = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), on_cuda)
    assert isinstance(twice, nn.Sequential) and isinstance(twice[0], SyncBatchNorm2d)


def test_an_input_that_is_no_image_batch_is_refused_as_torch_does():
    norm = synchronise_batch_norm(nn.BatchNorm2d(3), World(torch.device("cpu"), size=2))
    with pytest.raises(ValueError, match="expected 4D input"):
        norm(torch.zeros(2, 3))
