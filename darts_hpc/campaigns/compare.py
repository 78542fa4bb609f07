"""The comparison of a campaign's methods: the numbers of each method in each space, and what they say."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from darts_hpc.campaigns.anytime import Point, anytime_points
from darts_hpc.campaigns.counts import Count
from darts_hpc.campaigns.families import RANDOM, Family, families
from darts_hpc.campaigns.state import JobState
from darts_hpc.campaigns.uncertainty import Difference
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.reporting.groups import Statistic
from darts_hpc.run.reader import RecordedRun
from darts_hpc.space.genotypes import Genotype
from darts_hpc.units import counted


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one method's cells in one space came to.

    accuracies: cell -> test accuracy in percent of each of its trainings, for the cells whose trainings are finished.
    num_planned: cells there are in the plan. failed_searches, failed_trainings: of them, those that will never be in
    `accuracies`, by what failed. best: the one that ranked first on held-out images. search_seconds: device time of
    each finished search. peak_bytes: memory of each. cells: by name, those that are known. held_out: accuracy of those
    that are ranked. eigenvalues: the last that each search recorded. searches, trainings: the finished ones; the latter
    of the cells in `accuracies`.
    """

    family: Family
    accuracies: dict[str, list[float]]
    num_planned: int
    failed_searches: int
    failed_trainings: int
    best: str | None
    difference: Difference | None
    search_seconds: list[float]
    peak_bytes: list[float]
    cells: dict[str, Genotype]
    held_out: list[float]
    eigenvalues: list[float]
    anytime: list[Point]
    searches: list[RecordedRun]
    trainings: list[RecordedRun]

    @property
    def count(self) -> Count:
        """Cells in `accuracies`, and those that will never be there."""
        return Count(len(self.accuracies), self.num_planned, self.failed_searches + self.failed_trainings)

    @property
    def per_cell(self) -> list[float]:
        """Mean accuracy of each cell over its trainings."""
        return [sum(values) / len(values) for values in self.accuracies.values()]

    @property
    def trained_cells(self) -> dict[str, Genotype]:
        """The cells that `accuracies` are of."""
        return {cell: self.cells[cell] for cell in self.accuracies}

    @property
    def statistic(self) -> Statistic | None:
        """Mean and deviation over cells."""
        return Statistic.of(self.per_cell) if self.accuracies else None

    @property
    def best_accuracy(self) -> float | None:
        """Test accuracy of the cell that ranked first on held-out images."""
        values = self.accuracies.get(self.best or "")
        return sum(values) / len(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every method in every space.

    methods: as planned, random cells last. baselines: published cell -> accuracy of each finished training.
    baseline_counts: of these trainings. setting: in words.
    """

    outcomes: list[Outcome]
    baselines: dict[str, list[float]]
    baseline_counts: dict[str, Count]
    methods: list[str]
    num_trainings: int
    setting: str
    num_variants: int = 0
    """Variants of the campaign; 0 for one that compares orders."""

    @property
    def spaces(self) -> list[str]:
        """The spaces, as planned."""
        return list(dict.fromkeys(outcome.family.space for outcome in self.outcomes))

    def of(self, method: str, space: str) -> Outcome | None:
        """Return what a method came to in a space; None where it is not searched there."""
        same = (o for o in self.outcomes if (o.family.method, o.family.space) == (method, space))
        return next(same, None)

    def in_space(self, space: str) -> list[Outcome]:
        """Return the outcomes of a space, random cells last."""
        return [found for method in self.methods if (found := self.of(method, space)) is not None]


def compare(
    cfg: CampaignConfig, states: Sequence[JobState], runs: Mapping[str, RecordedRun], best: Mapping[str, str]
) -> Comparison | None:
    """Compare the families whose every cell is trained in full; None for a campaign that trains the best ones only.

    runs: by job, those that have begun. best: family -> its cell that ranked first.
    """
    if not (cfg.search.variants or cfg.train.train_all):
        return None
    seeds = cfg.train.final_seeds if cfg.search.variants else cfg.train.final_seeds[:1]
    lost = {each.job.name for each in states if each.is_lost}
    lost |= {name for name, run in runs.items() if run.entry == "train" and run.finished and run.accuracy is None}
    device_seconds = {e.job.name: e.progress.device_seconds for e in states if e.progress is not None}
    accuracies = {family.name: _accuracies(family.cells, seeds, runs) for family in families(cfg).values()}
    random = {f.space: list(accuracies[f.name].values()) for f in families(cfg).values() if f.is_random}
    outcomes = []
    for family in families(cfg).values():
        own = list(accuracies[family.name].values())
        theirs = random.get(family.space, [])
        unfound = [cell for cell in family.cells if f"search-{cell}" in lost]
        untrained = [cell for cell in family.cells if _lost_trainings(cell, seeds, lost) and cell not in unfound]
        searches = [runs[f"search-{cell}"] for cell in family.cells if f"search-{cell}" in runs]
        searches = [run for run in searches if run.finished]
        ranked = [runs[f"select-{cell}"] for cell in family.cells if f"select-{cell}" in runs]
        outcomes.append(
            Outcome(
                family=family,
                accuracies=accuracies[family.name],
                num_planned=len(family.cells),
                failed_searches=len(unfound),
                failed_trainings=len(untrained),
                best=best.get(family.name),
                difference=Difference.of(own, theirs) if own and theirs and not family.is_random else None,
                search_seconds=[device_seconds[run.name] for run in searches],
                peak_bytes=[run.numbers["peak_memory_bytes"] for run in searches if "peak_memory_bytes" in run.numbers],
                cells=_cells(family, seeds, runs),
                held_out=[run.accuracy for run in ranked if run.finished and run.accuracy is not None],
                eigenvalues=[values[-1] for run in searches if (values := _recorded(run, "eigenvalue"))],
                anytime=[] if family.is_random else anytime_points(cfg, family, runs),
                searches=searches,
                trainings=[runs[f"final-{cell}-seed{seed}"] for cell in accuracies[family.name] for seed in seeds],
            )
        )
    again = cfg.train.baseline_seeds
    baselines = {cell: _trainings(cell, again, runs) for cell in cfg.train.baselines}
    trained = next((run for outcome in outcomes for run in outcome.trainings), None)
    setting = "" if trained is None else _words(trained)
    return Comparison(
        outcomes=outcomes,
        baselines=baselines,
        baseline_counts={
            cell: Count(len(values), len(again), _lost_trainings(cell, again, lost))
            for cell, values in baselines.items()
        },
        methods=[
            *dict.fromkeys(method.name for method in cfg.search.methods),
            *([RANDOM] if cfg.search.random_cells else []),
        ],
        num_trainings=len(seeds),
        setting=setting,
        num_variants=len(cfg.search.variants),
    )


def _accuracies(cells: Sequence[str], seeds: Sequence[int], runs: Mapping[str, RecordedRun]) -> dict[str, list[float]]:
    """Return cell -> accuracy of each training, for the cells whose trainings are all finished."""
    found = {cell: _trainings(cell, seeds, runs) for cell in cells}
    return {cell: values for cell, values in found.items() if len(values) == len(seeds)}


def _trainings(cell: str, seeds: Sequence[int], runs: Mapping[str, RecordedRun]) -> list[float]:
    own = [runs[name] for seed in seeds if (name := f"final-{cell}-seed{seed}") in runs]
    return [run.accuracy for run in own if run.finished and run.accuracy is not None]


def _lost_trainings(cell: str, seeds: Sequence[int], lost: Collection[str]) -> int:
    return sum(f"final-{cell}-seed{seed}" in lost for seed in seeds)


def _cells(family: Family, seeds: Sequence[int], runs: Mapping[str, RecordedRun]) -> dict[str, Genotype]:
    """Return cell -> genotype, by its finished search, or else by what trains it."""
    found = {}
    for cell in family.cells:
        search = runs.get(f"search-{cell}")
        known = [search] if search is not None and search.finished else []
        known += [runs[name] for name in (f"select-{cell}", f"final-{cell}-seed{seeds[0]}") if name in runs]
        if known and (genotype := known[0].genotype) is not None:
            found[cell] = genotype
    return found


def _recorded(run: RecordedRun, name: str) -> list[float]:
    return [record[name] for record in run.epochs if name in record]


def _words(run: RecordedRun) -> str:
    """Say what a training was of."""
    config = run.config
    size = f" of {config['image_size']} pixels" if config.get("image_size") not in (None, "null") else ""
    names = {"layers": "cell", "init_channels": "channel", "epochs": "epoch"}
    cells, channels, epochs = (counted(config.get(name, "?"), noun) for name, noun in names.items())
    return f"{config.get('dataset', 'images')}{size}, {cells} of {channels}, {epochs}"
