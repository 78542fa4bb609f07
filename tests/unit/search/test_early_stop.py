"""The history that a stop rule decides on."""

import random

import pytest

from darts_hpc.config.train_search import EarlyStopConfig
from darts_hpc.search.early_stop import EarlyStop
from darts_hpc.space.random_cells import random_genotype

CELL = random_genotype(0)


@pytest.mark.parametrize("factor", [10.0, 1.5])
@pytest.mark.parametrize("every", [1, 2])
def test_adaptive_keeps_every_epoch_that_it_goes_back_to_however_often(every, factor):
    times_back = 0
    for seed in range(50):
        draw = random.Random(seed)
        cfg = EarlyStopConfig(early_stop="adaptive", early_stop_from=0, eigenvalue_every=every, adaptive_factor=factor)
        history, kept, epoch = EarlyStop(cfg, 60, 3e-4), set(), 0
        while epoch < 60:
            if history.stop is not None:
                epoch = history.roll_back()
                assert epoch in kept
                times_back, epoch = times_back + 1, epoch + 1
            history.add(epoch, CELL, {}, draw.lognormvariate(0, 1) if history.is_due(epoch) else None)
            if keep := history.epochs_to_keep:
                kept.add(epoch)
                kept.discard(epoch - keep)
            epoch += 1
    assert times_back > 50
