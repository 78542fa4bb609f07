"""How good a search's cell would have been, had the search ended earlier: short trainings of the cells of then.

The accuracy of the supernet says little about its cell. So the cell that is derived after a share of the epochs is
trained as cells are for the ranking: with the same seed, on the same images, evaluated on those held out.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darts_hpc.campaigns.families import Family
from darts_hpc.campaigns.plan import Job
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.durable import write_atomically
from darts_hpc.run.reader import RecordedRun, read_run


@dataclass(frozen=True)
class Point:
    """What searches of a family had reached: means over n of them. share: of their epochs. accuracy: held out, in %."""

    share: float
    seconds: float
    accuracy: float
    n: int


def epoch_after(run: RecordedRun, share: float) -> int:
    """Return the epoch, from 0, at whose end a share of those that a search ran was done."""
    epochs = sorted(run.cell_after)
    if not epochs:
        raise ValueError(
            f"{run.folder}/genotypes.jsonl: expected the cell of an epoch, which a search writes at its end"
        )
    return epochs[max(0, round(share * len(epochs)) - 1)]


def seconds_after(run: RecordedRun, share: float) -> float | None:
    """Return the time that a search had taken at the end of that epoch; None where it was not recorded.

    Old searches recorded it before the epoch's validation.
    """
    if share == 1:
        return run.result["seconds"] if run.result else None
    last = epoch_after(run, share)
    found = [each["performance/seconds"] for each in run.performance if each["epoch"] <= last]
    ends = [e["performance/seconds"] for e in run.performance if e.get("event") == "epoch" and e["epoch"] == last]
    return (ends or found or [None])[-1]


def write_cell(folder: Path, job: Job) -> None:
    """Write the cell that an any-time job of a campaign trains, when its search is finished."""
    (search,) = job.after
    run = read_run(folder / "runs" / search)
    genotype = run.cell_after[epoch_after(run, job.share)]
    path = folder / "cells" / f"{job.cell}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, (genotype.to_json() + "\n").encode())


def anytime_points(cfg: CampaignConfig, family: Family, runs: Mapping[str, RecordedRun]) -> list[Point]:
    """Return what searches of a family had reached after each share, and at their end: of those that have all of it."""
    shares = (*sorted(cfg.train.anytime_shares), 1.0)
    reached = [_reached(cell, shares, runs) for cell in family.cells]
    complete = [own for own in reached if len(own) == len(shares)]
    if not complete:
        return []
    by_share = [list(zip(*own, strict=True)) for own in zip(*complete, strict=True)]
    return [
        Point(share, statistics.fmean(seconds), statistics.fmean(accuracies), len(complete))
        for share, (seconds, accuracies) in zip(shares, by_share, strict=True)
    ]


def _reached(cell: str, shares: Sequence[float], runs: Mapping[str, RecordedRun]) -> list[tuple[float, float]]:
    """Return seconds and held-out accuracy of a search after each share, as far as they are known."""
    search, found = runs.get(f"search-{cell}"), []
    for share in shares:
        short = runs.get(f"select-{cell}" if share == 1 else f"anytime-{cell}-at{share:g}")
        if search is None or not search.finished or short is None or not short.finished or short.accuracy is None:
            continue
        seconds = seconds_after(search, share)
        if seconds is not None:
            found.append((seconds, short.accuracy))
    return found
