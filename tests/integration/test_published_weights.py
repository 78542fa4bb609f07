"""Weights as the family's repositories save them give the logits of their own networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from published import PublishedNetwork
from run_entries import FEW, entry
from torch import nn

from darts_hpc.commands.evaluate import load_for_test
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.run.weights import read_weights
from darts_hpc.space.genotypes import GENOTYPES, parse_genotype

State = dict[str, torch.Tensor]
CPU = torch.device("cpu")


def of_torch_0_3(state: State) -> State:
    """Without the batches that BatchNorm counts since PyTorch 0.4.1."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def parallel(state: State) -> State:
    """As DataParallel names it."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


def checkpoint(state: State) -> dict:
    """What utils.save_checkpoint of the repositories writes."""
    sgd = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1, momentum=0.9).state_dict()
    return {"epoch": 250, "state_dict": state, "best_acc_top1": 73.1, "optimizer": sgd}


def profiled(state: State) -> State:
    """With what thop leaves in each module, and a chance of drop path kept as a buffer."""
    counts = {f"{name.rpartition('.')[0]}.{total}": torch.zeros(1) for name in state for total in THOP}
    return {**state, **counts, **dict.fromkeys(THOP, torch.zeros(1)), "drop_path_prob": torch.tensor(0.2)}


THOP = ("total_ops", "total_params")
SAVED: dict[str, tuple[str, str, Callable, dict]] = {
    "quark0 cifar10_model.pt": ("cifar", "DARTS_V2", of_torch_0_3, {}),
    "quark0 imagenet.pth.tar": ("imagenet", "DARTS_V2", lambda s: checkpoint(of_torch_0_3(s)), {}),
    "PC-DARTS CIFAR": ("cifar", "PC_DARTS_cifar", lambda s: s, {}),
    "PC-DARTS ImageNet, 8 GPUs": ("imagenet", "PC_DARTS_image", lambda s: checkpoint(parallel(s)), {}),
    "PC-DARTS ImageNet, one GPU": ("imagenet", "PC_DARTS_image", checkpoint, {}),
    "P-DARTS CIFAR10.pt": ("cifar", "PDARTS", of_torch_0_3, {}),
    "P-DARTS imagenet.pth.tar": ("imagenet", "PDARTS", lambda s: checkpoint(parallel(of_torch_0_3(s))), {}),
    "darts-pt CIFAR": ("cifar", "darts_pt_s5_0", checkpoint, {}),
    "darts-pt CIFAR, without --auxiliary": ("cifar", "darts_pt_s2_1", lambda s: s, {"auxiliary": False}),
    "darts-pt ImageNet, --parallel": ("imagenet", "darts_pt_s5_0", lambda s: checkpoint(parallel(s)), {}),
    "DARTS- ImageNet": ("imagenet", "DARTS_minus_s0", lambda s: s, {"last_norm": True}),
    "FairDARTS, profiled by thop": ("cifar", "FairDARTS_d", profiled, {}),
    "profiled on 2 GPUs": ("cifar", "SDARTS_ADV", lambda s: checkpoint(parallel(profiled(s))), {}),
    "DrNAS": ("cifar", "DrNAS_cifar10", lambda s: s, {"pool_norm": True}),
}


@pytest.mark.parametrize("name", SAVED)
def test_weights_of_the_familys_repositories_give_their_own_logits(name, tmp_path: Path):
    stem, cell, save, options = SAVED[name]
    torch.manual_seed(0)
    published = PublishedNetwork(stem, 4, 7, 3, GENOTYPES[cell], **options)
    torch.save(save(published.state_dict()), tmp_path / "model.pt")
    text = GENOTYPES[cell].to_json()
    genotype = parse_genotype(text.replace("_pool_3x3", "_pool_3x3_bn") if options.get("pool_norm") else text)
    network = DerivedNetwork(stem, 4, 7, 3, True, genotype)
    load_for_test(network, read_weights(tmp_path / "model.pt"), World(CPU), cell)
    images = torch.randn(2, 3, *((224, 224) if stem == "imagenet" else (16, 16)), dtype=torch.float64)
    with torch.no_grad():
        expected = published.double()(images)
        for form in ("plain", "fast"):
            found, _ = choose_network(form, network.double(), CPU)[0].eval()(images)
            assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9), form


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {n: t for n, t in s.items() if n != "cells.0._ops.0.op.1.weight"}, "has no key 'cells.0._ops.0.op"),
        (lambda s: {**s, "cells.0._ops.8.op.1.weight": torch.ones(1)}, "unknown key 'cells.0._ops.8.op.1.weight'"),
        (lambda s: {**s, "total_ops.weight": torch.ones(1)}, "unknown key 'total_ops.weight'"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_key(change, says):
    state = PublishedNetwork("cifar", 4, 7, 3, GENOTYPES["DARTS_V2"]).state_dict()
    network = DerivedNetwork("cifar", 4, 7, 3, True, GENOTYPES["DARTS_V2"])
    with pytest.raises(ValueError, match=says):
        load_for_test(network, change(state), World(CPU), "DARTS_V2")


def test_evaluate_tests_a_file_of_another_repository_and_says_how_its_network_differs(tmp_path: Path):
    published = PublishedNetwork("cifar", 4, 10, 3, GENOTYPES["DrNAS_imagenet"])
    torch.save(checkpoint(parallel(published.state_dict())), tmp_path / "model.pth.tar")
    flags = ["--model_path", tmp_path / "model.pth.tar", "--arch", "DrNAS_imagenet", "--auxiliary", "--image_size", "8"]
    done = entry("evaluate", *flags, *FEW, "--init_channels", "4", "--layers", "3", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert "--arch DrNAS_imagenet: DrNAS trains its networks with a BatchNorm behind each pool" in done.stderr
