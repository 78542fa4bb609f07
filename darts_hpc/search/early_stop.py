"""When a search ends before its last epoch: the history of its epochs, and the rule that decides on it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from darts_hpc.config.train_search import EarlyStopConfig
from darts_hpc.search.stop_rules import DELTA, WINDOW, Stop, local_averages, rising_eigenvalue, too_many_skips
from darts_hpc.space.genotypes import Genotype


class EarlyStop:
    """The history of a search and the decision on it; a checkpoint keeps both.

    Args:
        cfg: the rule and its numbers.
        epochs: of the whole search.
        weight_decay: of the weights, which the rule adaptive raises.
        first_trained: the first epoch in which the alphas move; no rule gives the cell of one before.

    Attributes:
        stop: the decision that ended the search, if one has.
        parameters: the architecture's, by name, after each epoch.
    """

    def __init__(self, cfg: EarlyStopConfig, epochs: int, weight_decay: float, first_trained: int = 0):
        self.cfg, self.epochs, self.weight_decay, self.first_trained = cfg, epochs, weight_decay, first_trained
        self.skips: list[int] = []
        self.eigenvalues: list[float] = []
        self.parameters: list[dict[str, Tensor]] = []
        self.stop: Stop | None = None

    @property
    def first_epoch(self) -> int:
        """The first epoch that rules look at."""
        return max(self.cfg.early_stop_from, self.first_trained)

    @property
    def needs_eigenvalues(self) -> bool:
        """Whether the eigenvalues of epochs are measured, for the rule or for the record."""
        return self.cfg.record_eigenvalue or self.cfg.early_stop in ("eigenvalue", "adaptive")

    @property
    def epochs_to_keep(self) -> int:
        """Number of latest epochs that adaptive may yet roll back to; 0 for other rules.

        It goes back by WINDOW // 2 + DELTA evaluations, and may do so again one evaluation later.
        """
        decay, evaluations = self.weight_decay, 0
        while self.cfg.early_stop == "adaptive" and evaluations < self.epochs and self.cfg.can_raise(decay):
            decay *= self.cfg.adaptive_factor
            evaluations += WINDOW // 2 + DELTA - (evaluations > 0)
        return evaluations * self.cfg.eigenvalue_every + 1 if evaluations else 0

    def is_due(self, epoch: int) -> bool:
        """Whether the eigenvalue is computed after an epoch."""
        return self.needs_eigenvalues and (epoch % self.cfg.eigenvalue_every == 0 or epoch == self.epochs - 1)

    def add(self, epoch: int, genotype: Genotype, parameters: Mapping[str, Tensor], eigenvalue: float | None) -> None:
        """Add an epoch, 0-based, to the history, and decide."""
        if self.cfg.early_stop == "none":
            return
        self.skips.append(genotype.num_skip_connects)
        self.parameters.append({name: tensor.detach().cpu().clone() for name, tensor in parameters.items()})
        if eigenvalue is not None:
            self.eigenvalues.append(eigenvalue)
        if epoch < self.epochs - 1:  # after the last nothing is left to stop
            self.stop = STOP_RULES[self.cfg.early_stop](self, eigenvalue is not None)

    def numbers(self) -> dict[str, float]:
        """Return what the newest decision compared, for the record: the eigenvalue's average and its rise, if known."""
        averages = local_averages(self.eigenvalues) if self.cfg.early_stop in ("eigenvalue", "adaptive") else []
        numbers = {"eigenvalue_average": averages[-1]} if averages else {}
        if len(averages) > DELTA and averages[-1 - DELTA] > 0:
            numbers["eigenvalue_rise"] = averages[-1] / averages[-1 - DELTA]
        return numbers

    def roll_back(self) -> int:
        """Forget what came after the epoch that the stop names, raise the weight decay, and return that epoch."""
        assert self.stop is not None
        epoch = self.stop.epoch
        del self.skips[epoch + 1 :], self.parameters[epoch + 1 :]
        del self.eigenvalues[epoch // self.cfg.eigenvalue_every + 1 :]
        self.weight_decay *= self.cfg.adaptive_factor
        self.stop = None
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the history and the decision."""
        return {
            "skips": self.skips,
            "eigenvalues": self.eigenvalues,
            "parameters": self.parameters,
            "stop": None if self.stop is None else tuple(self.stop),
            "weight_decay": self.weight_decay,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history and the decision."""
        self.skips, self.eigenvalues = list(state["skips"]), list(state["eigenvalues"])
        self.parameters = [{name: t.cpu() for name, t in epoch.items()} for epoch in state["parameters"]]
        self.stop = None if state["stop"] is None else Stop(*state["stop"])
        self.weight_decay = state["weight_decay"]


def _by_skips(history: EarlyStop, measured: bool) -> Stop | None:
    return too_many_skips(history.skips, history.cfg.max_skips, history.first_epoch, history.first_trained)


def _by_eigenvalue(history: EarlyStop, measured: bool) -> Stop | None:
    cfg = history.cfg
    if not measured:
        return None
    return rising_eigenvalue(history.eigenvalues, cfg.eigenvalue_every, cfg.eigenvalue_factor, history.first_epoch)


def _adaptively(history: EarlyStop, measured: bool) -> Stop | None:
    return _by_eigenvalue(history, measured) if history.cfg.can_raise(history.weight_decay) else None


# name of --early_stop -> (history, whether the epoch's eigenvalue was measured) -> decision
STOP_RULES: dict[str, Callable[[EarlyStop, bool], Stop | None]] = {
    "skips": _by_skips,
    "eigenvalue": _by_eigenvalue,
    "adaptive": _adaptively,
}
