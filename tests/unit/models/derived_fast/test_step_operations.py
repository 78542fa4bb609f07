"""A training step of the paper's networks stays few operations, as benchmarks/train_step.py counts them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


class Unrecorded:
    """A recorder whose replay is the step itself."""

    def warm_up(self, step: Callable[[], Any]) -> Any:
        return step()

    def record(self, step: Callable[[], Any]) -> tuple[Callable[[], object], None]:
        return step, None


def test_the_graph_that_is_timed_takes_the_steps_that_the_eager_form_takes(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    from darts_hpc.training import cuda_graph

    monkeypatch.setattr(cuda_graph, "Recorder", Unrecorded)
    for name in train_step.FULL:
        setting = replace(train_step.FULL[name], init_channels=4, layers=3, batch_size=2, image_size=32)
        trainings = [train_step.Training(setting, "fast", "fp32", torch.device("cpu")) for _ in range(2)]
        trainings[1].loader = trainings[0].loader
        trainings[1].batches = train_step.endless(trainings[0].loader.batches)
        graphed = trainings[0].graphed_step()
        graphed()
        for _ in range(train_step.WARM_UP_STEPS + 2):
            trainings[1].step()
        own, same = (training.weights[0] for training in trainings)
        assert torch.equal(own, same) and trainings[0].meter.totals[-1] == trainings[1].meter.totals[-1]


@pytest.mark.parametrize(
    ("name", "operations", "kernels", "gigabytes"),
    [("cifar", 1300, 1700, 0.9 * 71.1), ("imagenet", 800, 1100, 0.9 * 68.2)],  # traffic: 0.9 times the plain form's
)
def test_a_step_of_the_fast_network_is_few_operations(name, operations, kernels, gigabytes, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    counted = train_step.count(train_step.FULL[name], "fast")
    assert counted.total() <= operations
    assert counted.total("kernels") <= kernels
    assert counted.total("bytes") <= gigabytes * 1e9
    assert counted.parts["batch"]["operations"] <= 30
