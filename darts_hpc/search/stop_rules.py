"""When a search should stop, and which epoch's cell is its result: pure functions of what the epochs have recorded."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WINDOW = 5
"""Eigenvalues that are averaged (RobustDARTS, utils.EVLocalAvg)."""
DELTA = 4
"""Evaluations between the two averages that are compared."""


class Stop(NamedTuple):
    """A rule's decision: the search should have ended with the cell of this epoch, 0-based."""

    epoch: int
    why: str


def too_many_skips(skips: Sequence[int], max_skips: int, first_epoch: int, first_trained: int = 0) -> Stop | None:
    """Stop at the first epoch, of those from first_epoch on, whose normal cell has more than max_skips skip
    connections, with the cell of the last epoch that had fewer (DARTS+, section 3.3, first criterion).

    Args:
        skips: skip connections in the normal cell after each epoch.
        first_trained: the first epoch in which the alphas move; the cells of before are random, and never the result.
    """
    over = next((epoch for epoch, count in enumerate(skips) if epoch >= first_epoch and count > max_skips), None)
    if over is None:
        return None
    good = [epoch for epoch in range(first_trained, over) if skips[epoch] <= max_skips]
    why = f"the normal cell of epoch {over + 1} has {skips[over]} skip connections, more than {max_skips}"
    return Stop(good[-1], why) if good else Stop(over, f"{why}, and so has every one since the alphas move")


def local_averages(eigenvalues: Sequence[float], window: int = WINDOW, *, ended: bool = False) -> list[float]:
    """Return the averages over a sliding window, each centred on its evaluation and so known window // 2 later.

    The first ones have shorter windows. `ended`: the last eigenvalue is that of the search's last epoch, so the
    remaining averages, over shorter windows, are known too.
    """
    behind = math.ceil(window / 2)
    ends = range(behind, len(eigenvalues) + (0 if ended else 1))
    averages = [_mean(eigenvalues[max(0, end - window) : end]) for end in ends]
    if ended:
        first = max(0, len(eigenvalues) - window)
        averages += [_mean(eigenvalues[first + left :]) for left in range(min(behind, len(eigenvalues) - first))]
    return averages


def rising_eigenvalue(
    eigenvalues: Sequence[float],
    every: int,
    factor: float,
    first_epoch: int,
    *,
    window: int = WINDOW,
    delta: int = DELTA,
) -> Stop | None:
    """Stop when the eigenvalue's local average is `factor` times what it was `delta` evaluations before, with the cell
    of then (DARTS-ES: Zela et al. 2020, section 4.3). Only the newest average is checked.

    Averages can't be compared where the earlier one is not above 0.

    Args:
        eigenvalues: of the epochs 0, every, 2 * every, ...; not for the last epoch of a search, where nothing is
            left to stop.
        first_epoch: the earliest epoch whose cell may be the result.
    """
    chosen = (len(eigenvalues) - 1 - window // 2 - delta) * every  # that the earlier average is centred on
    averages = local_averages(eigenvalues, window)
    if chosen < first_epoch or len(averages) <= delta:
        return None
    now, before = averages[-1], averages[-1 - delta]
    if not (before > 0 and now / before > factor):
        return None
    epoch = chosen + every * delta
    return Stop(
        chosen,
        f"the largest eigenvalue, on average, grew from {before:.4g} at epoch {chosen + 1} to {now:.4g} at "
        f"epoch {epoch + 1}, more than {factor} times",
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
