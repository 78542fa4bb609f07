"""The conditions of every step of a search, from its configuration: a resumed run needs no state for them."""

from collections.abc import Callable

import torch
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.search.auxiliary_skip import SHARES
from darts_hpc.search.conditions import ALPHA_PASS, WEIGHT_PASS, Conditions
from darts_hpc.search.perturbations import perturbation_size
from darts_hpc.search.regularisers import DEFAULT_WEIGHTS, regulariser_weight


def epoch_conditions(
    cfg: SearchConfig, epoch: int, device: torch.device, own_relaxation: bool = False
) -> Callable[[int], Conditions] | None:
    """Return the conditions of an epoch's steps by their global number; None where nothing is drawn or scheduled."""
    plain = cfg.arch_optim.relaxation == "softmax" and cfg.arch_optim.alpha_regulariser == "none"
    if (
        plain
        and not own_relaxation
        and cfg.optim.perturb == "none"
        and cfg.model.auxiliary_skip == "none"
        and not cfg.model.search_drop_path
    ):
        return None
    numbers = schedules(cfg, epoch)

    def number(value: float) -> Tensor:  # filled in on the device, which nothing waits for
        return torch.full((), value, dtype=torch.float64, device=device)

    def at(global_step: int) -> Conditions:
        keys = [int(counter_rng.random_bits(cfg.run.seed, global_step, which)) for which in (ALPHA_PASS, WEIGHT_PASS)]
        alpha_key, weight_key = (torch.full((), key, dtype=torch.int64, device=device) for key in keys)
        tensors = {name: number(value) for name, value in numbers.items()}
        return Conditions(alpha_key=alpha_key, weight_key=weight_key, **tensors)

    return at


def schedules(cfg: SearchConfig, epoch: int) -> dict[str, float]:
    """Return an epoch's values by the fields of Conditions. Epochs after the last, of tuning, have the last one's."""
    epoch = min(epoch, cfg.run.epochs - 1)
    return {name: schedule(cfg, epoch) for name, schedule in SCHEDULES.items()}


def _tau(cfg: SearchConfig, epoch: int) -> float:
    arch = cfg.arch_optim
    return arch.tau_max + (arch.tau_min - arch.tau_max) * epoch / max(1, cfg.run.epochs - 1)


def _epsilon(cfg: SearchConfig, epoch: int) -> float:
    return perturbation_size(cfg.optim.perturb_epsilon, epoch / cfg.run.epochs)


def _auxiliary_share(cfg: SearchConfig, epoch: int) -> float:
    share = SHARES.get(cfg.model.auxiliary_skip)
    return share(epoch / cfg.run.epochs) if share else 0.0


def _regulariser_weight(cfg: SearchConfig, epoch: int) -> float:
    name, weight = cfg.arch_optim.alpha_regulariser, cfg.arch_optim.alpha_regulariser_weight
    weight = DEFAULT_WEIGHTS.get(name, 0.0) if weight is None else weight
    return regulariser_weight(name, weight, epoch / cfg.run.epochs)


def _drop_path(cfg: SearchConfig, epoch: int) -> float:
    return cfg.model.search_drop_path * epoch / max(1, cfg.run.epochs - 1)


# field of Conditions -> its number in an epoch
SCHEDULES: dict[str, Callable[[SearchConfig, int], float]] = {
    "tau": _tau,
    "epsilon": _epsilon,
    "auxiliary_share": _auxiliary_share,
    "regulariser_weight": _regulariser_weight,
    "drop_path": _drop_path,
}
