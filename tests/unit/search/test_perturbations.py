"""Perturbed weights of operations against a second implementation, on a problem whose gradient is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from step_conditions import conditions
from torch import nn

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.mixing import CellMixing, Mixing
from darts_hpc.search.perturbations import PERTURBATIONS, perturbation_size, to_simplex

WORLD = World(torch.device("cpu"))


class Linear(nn.Module):
    """Logits (B, 2) whose first is sum of m * w over both kinds of cells: the loss falls as it grows for label 0."""

    def __init__(self, w: torch.Tensor):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, images, mixing):
        score = (mixing.normal.operations * self.w[0]).sum() + (mixing.reduce.operations * self.w[1]).sum()
        return torch.stack([score, torch.zeros_like(score)]).expand(len(images), 2)


def numpy_simplex(m: np.ndarray) -> np.ndarray:
    clamped = np.clip(m, 0, 1)
    for row, original in zip(clamped, m, strict=True):
        if not row.any():
            row[original.argmax()] = 1
    return clamped / clamped.sum(1, keepdims=True)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)
    m = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator).softmax(-1)
    return Linear(w), Mixing(normal=CellMixing(operations=m[0]), reduce=CellMixing(operations=m[1]))


BATCH = torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)


def test_rows_without_a_positive_entry_become_their_largest():
    m = torch.tensor([[-0.5, -0.1, -0.2], [2.0, 0.5, -1.0], [0.2, 0.3, 0.0]])
    torch.testing.assert_close(to_simplex(m), torch.tensor([[0.0, 1.0, 0.0], [2 / 3, 1 / 3, 0.0], [0.4, 0.6, 0.0]]))


def test_random_noise_is_of_the_epochs_size_and_the_size_grows(problem):
    network, mixing = problem
    found = PERTURBATIONS["random"](network, mixing, BATCH, conditions(epsilon=0.1), WORLD).mixing
    noise = conditions(epsilon=0.1).draw(torch.tensor(1), 0).uniform(torch.Size([5, 3]))
    assert noise.min() >= -1 and noise.max() <= 1 and noise.std() > 0.3
    expected = numpy_simplex((mixing.normal.operations + 0.1 * noise).numpy())
    torch.testing.assert_close(found.normal.operations, torch.from_numpy(expected))
    assert [perturbation_size(0.3, progress) for progress in (0, 0.5)] == pytest.approx([0.03, 0.165])


def test_the_adversary_takes_seven_sign_steps_within_the_ball(problem):
    network, mixing = problem
    under = conditions(epsilon=0.2)
    found, before, after = PERTURBATIONS["adversarial"](network, mixing, BATCH, under, WORLD)
    for kind, cell in enumerate((mixing.normal, mixing.reduce)):
        start = cell.operations.numpy()
        at = numpy_simplex(start + 0.2 * under.draw(torch.tensor(1), kind).uniform(torch.Size([5, 3])).numpy())
        uphill = -np.sign(network.w[kind].detach().numpy())  # the loss is log(1 + exp(-score))
        for _ in range(7):
            at = numpy_simplex(start + np.clip(at + 2 / 7 * 0.2 * uphill - start, -0.2, 0.2))
        ours = (found.normal, found.reduce)[kind].operations
        torch.testing.assert_close(ours, torch.from_numpy(at), rtol=1e-12, atol=1e-14)
    assert before is not None and after is not None and after > before and network.training


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_perturbed_weight_step_drops_edges_as_the_plain_one_does(problem, name):
    network, mixing = problem
    dropping = replace(mixing, drop_path=torch.tensor(0.25))
    seen, forward = [], network.forward
    network.forward = lambda images, mixing: seen.append(mixing.drop_path) or forward(images, mixing)
    found = PERTURBATIONS[name](network, dropping, BATCH, conditions(epsilon=0.1), WORLD).mixing
    assert found.drop_path is dropping.drop_path
    assert seen == [None] * len(seen)  # the adversary looks at the network as in evaluation


def test_what_is_decided_about_an_edge_is_not_perturbed(problem):
    network, mixing = problem
    one_hot = mixing.normal.operations.clone()
    one_hot[2], one_hot[3] = torch.tensor([0.0, 1.0, 0.0]), 0.0
    decided = ((0, 1, 2), (0, 1, 2), (1,), (), (0, 1, 2))
    mixing = Mixing(normal=CellMixing(operations=one_hot, columns=decided), reduce=mixing.reduce)
    found = PERTURBATIONS["random"](network, mixing, BATCH, conditions(epsilon=0.1), WORLD).mixing.normal.operations
    assert torch.equal(found[2:4], one_hot[2:4]) and not torch.equal(found[:2], one_hot[:2])
