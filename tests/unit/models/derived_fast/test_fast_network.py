"""The fast derived network is the plain one: outputs, gradients, steps, statistics, evaluation; in float64 to 1e-10."""

import copy

import pytest
import torch
import torch.nn.functional as F
from published import VARIED
from torch import Tensor, nn

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.models.derived_fast.network import FastDerivedNetwork, why_not_fast
from darts_hpc.models.state_dicts import export_original, load_original
from darts_hpc.space.genotypes import GENOTYPES, Genotype, parse_genotype
from darts_hpc.training.optim import MomentumByName

CPU = torch.device("cpu")
TOLERANCE = 1e-10

ODD_ONES = parse_genotype(
    {  # what no published cell has: none, noise, two conv_7x1_1x7, dilated convolutions and strided skips side by side
        "normal": [
            ["none", 0],
            ["dil_conv_5x5", 1],
            ["conv_7x1_1x7", 0],
            ["conv_7x1_1x7", 1],
            *[["dil_conv_5x5", 0], ["dil_conv_3x3", 3], ["noise", 2], ["none", 4], ["sep_conv_3x3", 4], ["noise", 5]],
        ],
        "normal_concat": [6, 2, 5],
        "reduce": [
            ["skip_connect", 1],
            ["skip_connect", 0],
            ["skip_connect", 1],
            ["dil_conv_3x3", 0],
            *[["dil_conv_3x3", 1], ["conv_7x1_1x7", 2], ["none", 0], ["noise", 1]],
        ],
        "reduce_concat": [3, 5, 4],
    }
)
NO_POOLS = parse_genotype(
    {
        "normal": [["sep_conv_5x5", 0], ["sep_conv_5x5", 1], ["sep_conv_5x5", 2], ["skip_connect", 2]],
        "normal_concat": [2, 3],
        "reduce": [["sep_conv_3x3", 1], ["avg_pool_3x3", 0], ["max_pool_3x3", 0], ["avg_pool_3x3", 0]],
        "reduce_concat": [2, 3],
    }
)


def both(genotype: Genotype, stem: str, layers: int, auxiliary: bool) -> tuple[DerivedNetwork, FastDerivedNetwork]:
    """Return a plain network whose BatchNorms do something, and the fast one made of it, as on a GPU."""
    torch.manual_seed(0)
    plain = DerivedNetwork(stem, 4, 10, layers, auxiliary, genotype).double()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    plain.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return plain, FastDerivedNetwork(plain, stack_edges=True)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()


def step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int, side: int) -> list[Tensor]:
    """Take a clipped step; return logits, auxiliary logits if any, and the gradient's norm."""
    draw = torch.Generator().manual_seed(number)
    images = torch.randn(3, 3, side, side, generator=draw, dtype=torch.float64)
    labels, keys = torch.randint(10, (3,), generator=draw), torch.randint(2**62, (3,), generator=draw)
    optimizer.zero_grad()
    outputs = [logits for logits in network(images, keys) if logits is not None]
    losses = [F.cross_entropy(logits, labels) for logits in outputs]
    torch.stack([weight * loss for weight, loss in zip((1, 0.4), losses, strict=False)]).sum().backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return [*(logits.detach() for logits in outputs), norm]


@pytest.mark.parametrize(
    ("genotype", "stem", "layers", "side", "auxiliary"),
    [
        ("DARTS_V2", "cifar", 5, 8, True),
        ("DARTS_V2", "imagenet", 3, 50, True),  # the head feeds on the last cell; odd sides
        ("DARTS_V1", "cifar", 3, 11, False),
        ("NASNet", "cifar", 4, 8, True),
        ("AmoebaNet", "imagenet", 4, 32, False),
        (ODD_ONES, "cifar", 5, 16, True),
        (ODD_ONES, "imagenet", 3, 56, False),
        (NO_POOLS, "cifar", 3, 8, True),
    ],
    ids=lambda value: "own" if isinstance(value, Genotype) else None,
)
def test_three_steps_are_those_of_the_plain_network(genotype, stem, layers, side, auxiliary):
    genotype = GENOTYPES[genotype] if isinstance(genotype, str) else genotype
    plain, stacked = both(genotype, stem, layers, auxiliary)
    forms = {"plain": plain, "stacked": stacked, "edge by edge": FastDerivedNetwork(plain)}
    optimizers = {n: torch.optim.SGD(f.parameters(), 0.1, momentum=0.9, weight_decay=3e-4) for n, f in forms.items()}
    for network in forms.values():
        network.set_drop_path(0.3)
    worst = {}
    for number in range(3):
        outputs = {name: step(network, optimizers[name], number, side) for name, network in forms.items()}
        expected = {name: weight.grad for name, weight in plain.named_parameters()}
        for name in ("stacked", "edge by edge"):
            fast, case = forms[name], f"{name}, step {number}"
            assert isinstance(fast, FastDerivedNetwork) and fast.flat_weights.grad is not None
            pairs = zip(outputs[name], outputs["plain"], strict=True)
            worst[f"outputs {case}"] = max(error(found, other) for found, other in pairs)
            gradients = fast.original_layout({"flat_weights": fast.flat_weights.grad})
            assert list(gradients) == list(expected)
            worst |= {f"{w} {case}": error(gradients[w], g) for w, g in expected.items() if g is not None}
            assert all(gradients[w].abs().max() == 0 for w, gradient in expected.items() if gradient is None)
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    for name, network in forms.items():
        state = network.eval().state_dict()
        assert list(state) == list(plain.state_dict())
        worst |= {f"{n} {name}": error(state[n].double(), t.double()) for n, t in plain.state_dict().items()}
        with torch.no_grad():
            (found, none), (other, _) = network(images), plain.eval()(images)
        assert none is None
        worst[f"evaluation {name}"] = error(found, other)
    assert max(worst.values()) < TOLERANCE, sorted(worst.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("name", VARIED)
def test_published_cells_of_every_kind_have_a_fast_form_with_the_plain_forms_logits(name):
    plain, fast = both(GENOTYPES[name], "cifar", 3, False)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert error(fast.eval()(images)[0], plain.eval()(images)[0]) < TOLERANCE


def test_a_state_dict_survives_both_ways_bit_for_bit():
    plain, fast = both(GENOTYPES["NASNet"], "imagenet", 4, True)
    exported = export_original(fast)
    assert list(exported) == list(plain.state_dict())
    assert all(torch.equal(exported[name], tensor) for name, tensor in plain.state_dict().items())
    other = {name: torch.randn_like(t) if t.is_floating_point() else t + 7 for name, t in exported.items()}
    load_original(fast, other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in fast.state_dict().items())
    with pytest.raises(ValueError, match=r"unknown key 'cells\.9"):
        load_original(fast, {**other, "cells.9.bias": torch.zeros(1)})


@pytest.mark.parametrize("forms", [(0, 1), (1, 0)], ids=["plain to fast", "fast to plain"])
def test_momentum_moves_between_the_forms(forms):
    networks = both(GENOTYPES["DARTS_V2"], "cifar", 3, True)
    first, second = (networks[form] for form in forms)
    sgd, other = (torch.optim.SGD(n.parameters(), 0.1, momentum=0.9, weight_decay=3e-4) for n in (first, second))
    assert MomentumByName(sgd, first).state_dict() == {"momentum_buffer": {}}
    step(first, sgd, 0, 8)
    second.load_state_dict(first.state_dict())
    MomentumByName(other, second).load_state_dict(MomentumByName(sgd, first).state_dict())
    for network, optimizer in ((first, sgd), (second, other)):
        step(network, optimizer, 1, 8)
    found = second.state_dict()
    assert max(error(found[n].double(), t.double()) for n, t in first.state_dict().items()) < TOLERANCE


def test_the_optimizers_own_state_of_earlier_checkpoints_is_read():
    networks = both(GENOTYPES["DARTS_V1"], "cifar", 3, False)
    sgd, other = (torch.optim.SGD(n.parameters(), 0.1, momentum=0.9) for n in networks)
    step(networks[0], sgd, 0, 8)
    for network, optimizer in zip(networks, (sgd, other), strict=True):
        momentum = MomentumByName(optimizer, network)
        momentum.load_state_dict(copy.deepcopy(sgd.state_dict()))
        saved = momentum.state_dict()["momentum_buffer"]
        assert all(torch.equal(saved[n], sgd.state[w]["momentum_buffer"]) for n, w in networks[0].named_parameters())


def test_autocast_computes_in_its_format_and_the_gradient_is_one_vector_of_the_weights_own():
    plain, _ = both(GENOTYPES["DARTS_V2"], "cifar", 3, True)
    fast = FastDerivedNetwork(plain.float())
    formats, norm = [], F.batch_norm
    with torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "batch_norm", lambda x, *rest: formats.append((x.dtype, rest[2].dtype)) or norm(x, *rest))
        logits = fast(torch.randn(2, 3, 8, 8))[0]
    logits.float().sum().backward()
    assert logits.dtype == torch.bfloat16 and set(formats) == {(torch.bfloat16, torch.float32)}
    assert fast.flat_weights.grad is not None and fast.flat_weights.grad.dtype == torch.float32


def cell(*normal: tuple[str, int]) -> Genotype:
    return Genotype(normal, (2, 3), (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 2, (2, 3))


@pytest.mark.parametrize(
    ("genotype", "reason"),
    [
        # SGD leaves weights without a gradient alone: in one vector they would decay
        (cell(("none", 0), ("sep_conv_3x3", 1), ("noise", 0), ("skip_connect", 1)), "a state that nothing learns from"),
        (Genotype(GENOTYPES["DARTS_V1"].normal, (3, 4), GENOTYPES["DARTS_V1"].reduce, (3, 4)), "nothing learns from"),
    ],
)
def test_a_network_that_the_fast_form_cannot_compute_stays_plain_and_says_why(genotype, reason):
    plain = DerivedNetwork("cifar", 4, 10, 3, False, genotype)
    network, form, line = choose_network("fast", plain, CPU)
    assert network is plain and form == "plain"
    assert line is not None and reason in line and line.endswith("taking the plain one") and "\n" not in line
    with pytest.raises(ValueError, match="use the plain one"):
        FastDerivedNetwork(plain)


def test_an_operation_of_a_users_own_stays_plain():
    class Own(nn.Sequential):
        pass

    plain = DerivedNetwork("cifar", 4, 10, 3, False, GENOTYPES["DARTS_V1"])
    for op in (Own(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1))):
        plain.cells[0]._ops[2] = op  # pyright: ignore[reportIndexIssue, reportArgumentType]
        assert why_not_fast(plain) == f"does not support the operation {type(op).__name__}"


@pytest.mark.parametrize(
    ("kind", "device", "form"),
    [("auto", "cpu", "plain"), ("fast", "cpu", "fast"), ("auto", "cuda", "fast"), ("plain", "cuda", "plain")],
)
def test_auto_is_fast_on_a_gpu_and_plain_on_a_cpu(kind, device, form):
    plain = DerivedNetwork("cifar", 4, 10, 3, False, GENOTYPES["DARTS_V2"])
    network, chosen, line = choose_network(kind, plain, torch.device(device))
    assert (chosen, line, isinstance(network, FastDerivedNetwork)) == (form, None, form == "fast")
