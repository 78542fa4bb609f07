"""The nearest known name, or all of them."""

import pytest

from darts_hpc.suggest import did_you_mean

KNOWN = ["cifar10", "cifar100", "svhn", "DARTS_V2", "--batch_size"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar01", "did you mean cifar10?"),
        ("cifar-100", "did you mean cifar100?"),
        ("darts_v2", "did you mean DARTS_V2?"),
        ("--batch-sise", "did you mean --batch_size?"),
        ("x", "choose from cifar10, cifar100, svhn, DARTS_V2, --batch_size"),
        ("", "choose from cifar10, cifar100, svhn, DARTS_V2, --batch_size"),
    ],
)
def test_a_name_is_answered_with_the_nearest_known_one_or_with_all(name: str, words: str):
    assert did_you_mean(name, KNOWN) == words


def test_where_no_name_is_near_the_callers_own_words_are_given():
    assert did_you_mean("x", KNOWN, "--help lists them") == "--help lists them"
    assert did_you_mean("svhm", KNOWN, "--help lists them") == "did you mean svhn?"
