"""Selecting a cell by perturbation: what a stop in the middle of a decision leaves behind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from darts_hpc.config.train_search import SelectionConfig
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.search.architecture import KINDS, Architecture
from darts_hpc.search.selection import PerturbationSelection, Score, random_orders
from darts_hpc.space.spaces import uniform_space

SPACE = uniform_space(("none", "skip_connect", "sep_conv_3x3"), num_nodes=2)
WEIGHTS = {kind: torch.rand(5, 3, generator=torch.Generator().manual_seed(seed)) for seed, kind in enumerate(KINDS)}


class Alphas:
    """All that a selection needs of a supernet."""

    def __init__(self) -> None:
        self.alphas = {f"alphas_{kind}": nn.Parameter(WEIGHTS[kind] - 0.5) for kind in KINDS}

    def named_alphas(self) -> dict[str, nn.Parameter]:
        return self.alphas


def started() -> PerturbationSelection:
    architecture = Architecture(Alphas())  # pyright: ignore[reportArgumentType]
    selection = PerturbationSelection(architecture, SPACE, SelectionConfig(), *random_orders(0, SPACE))
    selection.first_epoch = 0
    return selection


def score(mixing: Mixing) -> Score:
    """A number that depends on every weight of an operation and of an edge."""
    total = 0.0
    for kind in KINDS:
        cell = getattr(mixing, kind)
        edges = 1 if cell.edges is None else cell.edges[:, None]
        total += float((cell.operations * WEIGHTS[kind] * edges).detach().sum())
    return Score(total, total)


def failing_at(call: int) -> Callable[[Mixing], Score]:
    calls = []

    def stop(mixing: Mixing) -> Score:
        calls.append(mixing)
        if len(calls) == call:
            raise InterruptedError
        return score(mixing)

    return stop


def resumed(selection: PerturbationSelection) -> PerturbationSelection:
    states: list[Any] = [selection.state_dict(), selection.architecture.state_dict()]
    again = started()
    again.load_state_dict(states[0])
    again.architecture.load_state_dict(states[1])
    return again


@pytest.mark.parametrize("call", [1, 2, 3, 4])  # two candidates of the normal cell, then two of the reduction cell
def test_a_decision_that_was_stopped_is_taken_as_if_it_had_not_been(call):
    whole, stopped = started(), started()
    expected = list(whole.decide(score, None))
    with pytest.raises(InterruptedError):
        list(stopped.decide(failing_at(call), None))
    taken = [decision for decision in expected if stopped.num_decided[decision.kind]]
    again = resumed(stopped)
    assert again.is_due(0) and taken + list(again.decide(score, None)) == expected
    assert again.state_dict() == whole.state_dict() and not again.is_due(0)
    assert again.architecture.state_dict() == whole.architecture.state_dict()
