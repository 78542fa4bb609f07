"""State dicts of the original: what loads, what is refused."""

import pytest
import torch

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.state_dicts import export_original, load_original
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import GENOTYPES


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


def test_an_auxiliary_head_that_the_model_lacks_is_left_out():
    theirs = export_original(network())
    model = network(auxiliary=False, seed=1)
    load_original(model, theirs)
    assert equal(export_original(model), theirs)


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
        (lambda state: state.pop("stem.0.weight"), "has no key 'stem.0.weight'"),
        (lambda state: state.update(surprise=torch.zeros(1)), "has the unknown key 'surprise'"),
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
