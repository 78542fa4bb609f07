"""Stop rules as pure functions of what the epochs have recorded; the eigenvalue's are in the golden files too."""

import pytest

from darts_hpc.search.stop_rules import Stop, local_averages, rising_eigenvalue, too_many_skips


def test_too_many_skips_gives_the_last_cell_that_had_fewer():
    assert too_many_skips([0, 1, 1], 1, 0) is None
    stop = too_many_skips([0, 1, 1, 2], 1, 0)
    assert stop is not None and stop.epoch == 2 and "epoch 4 has 2 skip connections, more than 1" in stop.why
    assert too_many_skips([3, 1, 3], 1, first_epoch=2) == Stop(1, too_many_skips([3, 1, 3], 1, 2).why)  # pyright: ignore
    always = too_many_skips([3, 3], 1, first_epoch=1)
    assert always is not None and always.epoch == 1
    untrained = too_many_skips([0, 1, 3], 1, first_epoch=2, first_trained=2)  # whose cells are random until then
    assert untrained is not None and untrained.epoch == 2


def test_averages_are_centred_and_the_first_ones_have_shorter_windows():
    assert local_averages([1, 2, 3, 4, 5, 6]) == [2, 2.5, 3, 4]
    assert local_averages([1, 2, 3, 4, 5, 6], ended=True) == [2, 2.5, 3, 4, 4.5, 5]
    assert local_averages([1, 2]) == []
    assert local_averages([1.0], ended=True) == [1.0]


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([1.0] * 6 + [10.0, 10.0, 10.0], True),
        ([1.0] * 9, False),
        ([-1.0] * 6 + [10.0, 10.0, 10.0], False),  # an average that was not above 0 can't be compared
        ([0.0] * 9, False),
    ],
)
def test_only_a_rise_from_above_zero_stops(values, stops):
    stop = rising_eigenvalue(values, 1, 1.3, 0)
    assert (stop is not None) == stops
    if stop is not None:
        assert stop.epoch == 8 - 2 - 4


def test_no_cell_of_before_the_first_epoch_is_given():
    values = [1.0] * 6 + [10.0] * 3
    assert rising_eigenvalue(values, 2, 1.3, first_epoch=4) is not None
    assert rising_eigenvalue(values, 2, 1.3, first_epoch=5) is None
