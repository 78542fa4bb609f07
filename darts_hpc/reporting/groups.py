"""Group the runs that share a configuration, and summarize their numbers."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from darts_hpc.config.flags import flags_of, spell
from darts_hpc.config.presets import ENTRIES
from darts_hpc.run.reader import RecordedRun

COMPARED = ("numbers", "batches")
"""Kinds of flags (config.flags.AFFECTS) in which runs of one configuration agree. Their cells are compared too."""
SIZES = {"layers": "cells", "init_channels": "channels", "epochs": "epochs"}


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (None for one run) over n runs."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        """Summarize values; infinities and NaN make everything NaN."""
        if not all(math.isfinite(value) for value in values):
            return cls(math.nan, math.nan if len(values) > 1 else None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Group:
    """Runs of the same configuration."""

    title: str
    runs: list[RecordedRun]

    @property
    def entry(self) -> str:
        """The entry they ran."""
        return self.runs[0].entry

    @property
    def accuracy_name(self) -> str | None:
        """Name of the accuracy they are known by; None before the first epoch of any."""
        return next((run.accuracy_name for run in self.runs if run.accuracy_name), None)

    @property
    def finished(self) -> list[RecordedRun]:
        """The runs that statistics are about."""
        return [run for run in self.runs if run.finished]

    def statistics(self) -> dict[str, Statistic]:
        """Summarize each number over the finished runs that have it."""
        numbers = [run.numbers for run in self.finished]
        keys = dict.fromkeys(key for own in numbers for key in own)
        return {key: Statistic.of([own[key] for own in numbers if key in own]) for key in keys}


def group_runs(runs: Sequence[RecordedRun]) -> list[Group]:
    """Group runs of the same configuration, in the order of their first run."""
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs:
        groups.setdefault(_configuration(run), []).append(run)
    titles = _titles([members[0] for members in groups.values()])
    return [Group(title, members) for title, members in zip(titles, groups.values(), strict=True)]


def _configuration(run: RecordedRun) -> str:
    """Return what runs of one configuration have in common, as text."""
    cell = str(run.genotype or run.config["arch"]) if "arch" in run.config else None
    return json.dumps([run.entry, _compared(run), cell], sort_keys=True, default=str)


def _compared(run: RecordedRun) -> dict[str, object]:
    """Return the flags that its configuration consists of, resolved, and its data; one that is unknown here counts."""
    flags = flags_of(ENTRIES[run.entry]) if run.entry in ENTRIES else {}
    compared = {n: value for n, value in run.config.items() if n not in flags or flags[n].affects in COMPARED}
    compared |= {n: run.identity[n] for n in compared if n in run.identity and flags[n].affects != "named"}
    beside = ["data_digest"]
    if not any(each.affects == "batches" for each in flags.values()):  # there --batch_size is that of each process
        beside.append("world_size")
    return compared | {name: run.identity[name] for name in beside if name in run.identity}


def _titles(runs: Sequence[RecordedRun]) -> list[str]:
    """Return what distinguishes the configurations: the usual sizes, then every flag in which they differ."""
    titles = []
    for run in runs:
        config = run.config
        words = [run.entry, spell(config.get("dataset", ""))]
        if run.entry == "train_search":
            words.append("second order" if config.get("unrolled") else "first order")
        words += [f"{spell(config[key])} {word}" for key, word in SIZES.items() if key in config]
        own, peers = _compared(run), [_compared(peer) for peer in runs if peer.entry == run.entry]
        varying = {key for peer in peers for key in peer.keys() | own.keys() if peer.get(key) != own.get(key)}
        words += [f"{key} {spell(own.get(key, '-'))}" for key in sorted(varying - {"dataset", "unrolled", *SIZES})]
        arch = str(config.get("arch", ""))
        archs = {str(peer.config.get("arch", "")) for peer in runs if peer.entry == run.entry}
        if arch and len(archs) > 1 and len(arch) < 80:
            words.append(f"arch {arch}")
        titles.append(", ".join(word for word in words if word))
    return titles
