"""Conditions of a search step, for tests: keys by the step's number, and the schedules' numbers by name."""

import torch

from darts_hpc.search.conditions import Conditions


def conditions(step: int = 0, **numbers: float) -> Conditions:
    names = "tau", "epsilon", "auxiliary_share", "regulariser_weight", "drop_path"
    tensors = {name: torch.tensor(numbers.get(name, 1.0), dtype=torch.float64) for name in names}
    return Conditions(alpha_key=torch.tensor(2 * step), weight_key=torch.tensor(2 * step + 1), **tensors)
