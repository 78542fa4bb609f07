"""The ranking of cells on held-out images, and which of them is trained in full."""

from collections.abc import Sequence
from pathlib import Path

from darts_hpc.campaigns.families import families
from darts_hpc.campaigns.state import JobState
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.run.reader import read_progress


def selection_accuracies(cfg: CampaignConfig, folder: Path) -> dict[str, dict[str, float]]:
    """Return family -> cell -> accuracy on the held-out images (%), best first, of the finished short trainings.

    Ties go to the cell planned first.
    """
    ranking = {}
    for name, family in families(cfg).items():
        found = {cell: read_progress(folder / "runs" / f"select-{cell}") for cell in family.cells}
        done = {c: p.accuracy for c, p in found.items() if p is not None and p.finished and p.accuracy is not None}
        ranking[name] = dict(sorted(done.items(), key=lambda item: -item[1]))
    return ranking


def best_cells(cfg: CampaignConfig, folder: Path, states: Sequence[JobState]) -> dict[str, str]:
    """Return family -> best cell, for the families in which every short training is finished, failed or blocked."""
    settled = {each.job.name for each in states if each.state == "finished" or each.is_lost}
    return {
        family: next(iter(accuracies))
        for family, accuracies in selection_accuracies(cfg, folder).items()
        if accuracies and all(f"select-{cell}" in settled for cell in families(cfg)[family].cells)
    }
