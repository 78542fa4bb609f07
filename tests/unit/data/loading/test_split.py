"""The split of the training images between weights and alphas."""

import pytest
import torch

from darts_hpc.data.loading.split import class_shares, held_out_split, search_split

LABELS = torch.arange(10).repeat(20)[torch.randperm(200, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("kind", ["stratified", "index"])
@pytest.mark.parametrize("portion", [0.5, 0.3, 0.95])
def test_halves_are_disjoint_complete_and_ascending(kind: str, portion: float):
    weights, alphas = search_split(LABELS, portion, seed=1, kind=kind)
    assert weights.dtype == alphas.dtype == torch.int64
    assert sorted(weights.tolist() + alphas.tolist()) == list(range(200))
    assert all((ids.diff() > 0).all() for ids in (weights, alphas))


def test_index_split_is_the_originals():
    for portion, count in [(0.5, 200), (0.7, 99), (0.5, 7), (0.9, 11)]:
        weights, alphas = search_split(LABELS[:count], portion, seed=1, kind="index")
        first = int(portion * count)
        assert weights.tolist() == list(range(first)) and alphas.tolist() == list(range(first, count))


def test_stratified_split_takes_the_share_of_each_class():
    weights, alphas = search_split(LABELS, 0.3, seed=1)
    assert LABELS[weights].bincount().tolist() == [6] * 10
    assert LABELS[alphas].bincount().tolist() == [14] * 10


def test_stratified_split_follows_the_seed():
    again, other = search_split(LABELS, 0.5, seed=1), search_split(LABELS, 0.5, seed=2)
    assert torch.equal(search_split(LABELS, 0.5, seed=1)[0], again[0])
    assert not torch.equal(other[0], again[0])
    assert 25 < len(set(again[0].tolist()) & set(other[0].tolist())) < 75  # about a half of a half


def test_every_image_is_equally_likely_in_the_weights_half():
    counts = torch.zeros(200)
    for seed in range(100):
        counts[search_split(LABELS, 0.5, seed)[0]] += 1
    assert (counts - 50).abs().max() < 5 * 5  # five standard deviations


@pytest.mark.parametrize("portion", [0, 1, -0.5, 1.5, float("nan")])
@pytest.mark.parametrize("kind", ["stratified", "index"])
def test_a_portion_outside_0_to_1_is_refused(portion: float, kind: str):
    with pytest.raises(ValueError, match=r"--train_portion \S+ must be between 0 and 1"):
        search_split(LABELS, portion, seed=0, kind=kind)


@pytest.mark.parametrize("portion", [0.001, 0.999])
def test_an_empty_side_or_class_is_refused(portion: float):
    with pytest.raises(ValueError, match="side without class 0, which has 20 images"):
        search_split(LABELS, portion, seed=0)
    with pytest.raises(ValueError, match="side of 0 images empty"):
        search_split(LABELS[:0], portion, seed=0, kind="index")
    with pytest.raises(ValueError, match="side without class 3, which has 1 images"):
        search_split(torch.tensor([2, 2, 3]), 0.5, seed=0)
    with pytest.raises(ValueError, match="side of 200 images empty"):
        search_split(LABELS, 0.001, seed=0, kind="index")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="stratified"):
        search_split(LABELS, 0.5, seed=0, kind="random")


def test_the_held_out_part_is_that_share_of_each_class_and_the_rest_trains():
    train, held_out = held_out_split(LABELS, 0.2, seed=3)
    assert sorted(train.tolist() + held_out.tolist()) == list(range(200))
    assert LABELS[held_out].bincount().tolist() == [4] * 10


def test_a_class_too_small_to_be_held_out_is_refused_by_that_flag():
    with pytest.raises(ValueError, match=r"--held_out 0.01: some class has only 20 images"):
        held_out_split(LABELS, 0.01, seed=3)


def test_shares_of_each_class_are_disjoint_ascending_and_drawn_by_the_seed():
    names = [str(label) for label in range(10)]
    weights, alphas = class_shares(LABELS, 0.3, 0.1, 1, names)
    assert LABELS[weights].bincount().tolist() == [6] * 10 and LABELS[alphas].bincount().tolist() == [2] * 10
    assert not set(weights.tolist()) & set(alphas.tolist())
    assert all((ids.diff() > 0).all() for ids in (weights, alphas))
    assert all(
        torch.equal(a, b) for a, b in zip((weights, alphas), class_shares(LABELS, 0.3, 0.1, 1, names), strict=True)
    )
    assert not torch.equal(weights, class_shares(LABELS, 0.3, 0.1, 2, names)[0])
    every = torch.cat(class_shares(LABELS, 0.72, 0.28, 1, names))
    assert sorted(every.tolist()) == list(range(200))
    assert torch.equal(class_shares(LABELS, 0.3, 0.7, 1, names)[0], weights)  # not up to the other share


@pytest.mark.parametrize(
    ("shares", "named"), [((0.3, 0.01), "--alpha_share 0.01"), ((0.02, 0.5), "--weight_share 0.02")]
)
def test_a_share_that_takes_no_image_of_a_class_is_refused_by_name(shares, named):
    with pytest.raises(ValueError, match=rf"^{named} takes none of the 20 training images of class 'zero'; raise it"):
        class_shares(LABELS, shares[0], shares[1], 1, ["zero", *map(str, range(1, 10))])
    with pytest.raises(ValueError, match="takes none of the 0 training images of class 'empty'"):
        class_shares(LABELS, 0.3, 0.1, 1, [*map(str, range(10)), "empty"])
