"""State dicts of the original: what loads, what is refused."""

import json

import pytest
import torch

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.state_dicts import export_original, load_original
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import GENOTYPES, parse_genotype


def network(auxiliary=True, channels=4, seed=0) -> DerivedNetwork:
    torch.manual_seed(seed)
    return DerivedNetwork("cifar", channels, 10, 3, auxiliary, GENOTYPES["DARTS"])


def equal(ours, theirs) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_data_parallel_prefix_and_old_pytorchs_missing_counters_load():
    theirs = export_original(network())
    old = {f"module.{name}": tensor for name, tensor in theirs.items() if not name.endswith("num_batches_tracked")}
    model = network(seed=1)
    load_original(model, old)
    assert equal(export_original(model), theirs)


@pytest.mark.parametrize("name", ["auxiliary_head", "aux_head", "auxiliary", "aux"])
def test_an_auxiliary_head_that_the_model_lacks_is_left_out(name):
    theirs = {key.replace("auxiliary_head", name): value for key, value in export_original(network()).items()}
    theirs[f"{name}.features.6.weight"] = torch.ones(768)  # P-DARTS' head has a second BatchNorm
    model = network(auxiliary=False, seed=1)
    load_original(model, theirs)
    assert equal(export_original(model), theirs)


@pytest.mark.parametrize("pool", ["max_pool_3x3", "avg_pool_3x3"])
def test_a_batch_norm_behind_pools_loads_into_a_cell_that_names_it_and_no_other(pool):
    """DrNAS' operations.py: AvgPoolBN and MaxPoolBN are self.op = Sequential(pool, BatchNorm2d(C, affine=False))."""
    cell = GENOTYPES["DARTS"].to_dict()
    for edges in (cell["normal"], cell["reduce"]):
        edges[0][0] = pool
    plain, theirs = parse_genotype(cell), parse_genotype(json.dumps(cell).replace(pool, f"{pool}_bn"))
    trained = DerivedNetwork("cifar", 4, 10, 3, False, theirs)
    trained.train()(torch.randn(2, 3, 8, 8))
    state = export_original(trained)
    assert "cells.0._ops.0.op.1.running_mean" in state and "cells.0._ops.0.op.1.weight" not in state
    again = DerivedNetwork("cifar", 4, 10, 3, False, theirs)
    load_original(again, state)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(again.eval()(images)[0], trained.eval()(images)[0])
    other = DerivedNetwork("cifar", 4, 10, 3, False, plain)
    with pytest.raises(ValueError, match=rf"this network differs .*; write {pool}_bn for {pool} in the cell's file"):
        load_original(other, state)


def test_whole_numbers_in_place_of_weights_are_refused():
    state = export_original(network())
    state["classifier.weight"] = state["classifier.weight"].to(torch.int8)
    with pytest.raises(ValueError, match=r"classifier.weight holds torch.int8 .*; expected torch.float32"):
        load_original(network(), state)


def test_search_states_load_without_alphas_and_export_without_them():
    supernet = SuperNet(4, 3, 10)
    theirs = export_original(supernet)
    assert not {"alphas_normal", "alphas_reduce"} & set(theirs)
    other = SuperNet(4, 3, 10)
    alphas = other.alphas_normal.detach().clone()
    load_original(other, theirs)
    assert equal(export_original(other), theirs) and torch.equal(other.alphas_normal, alphas)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("stem.0.weight"), "has no key 'stem.0.weight'; do"),
        (lambda state: state.update(surprise=torch.zeros(1)), "has the unknown key 'surprise'"),
        (lambda state: state.update({"a\n" * 50_000: torch.zeros(1)}), r"has the unknown key 'a\\n.{,400}$"),
        (lambda state: state.update({7: torch.zeros(1)}), "has the key 7; expected the names of weights"),
        (lambda state: state.update({"classifier.bias": torch.zeros(3)}), r"classifier.bias is \(3,\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    state = export_original(network(seed=1))
    change(state)
    model = network()
    before = export_original(model)
    with pytest.raises(ValueError, match=message):
        load_original(model, state)
    assert equal(export_original(model), before)
