"""Estimate a job's cost: its multiply-adds, at the rate of the published runs or of jobs already done."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from darts_hpc.campaigns.plan import Job
from darts_hpc.campaigns.state import JobState, hours_unit
from darts_hpc.config.shared import DataConfig, TrainModelConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.load import dataset_facts
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.space.genotypes import GENOTYPES, Genotype, load_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.units import readable_duration

PASSES = {"first_order": 2, "finite_difference": 5, "exact": 6}
"""Forward-backward passes per search step: first order; unrolled (paper, equations 7 and 8); with the true product,
whose double backward counts for three."""
ADVERSARY_PASSES = 7
"""Further ones of --perturb adversarial: its gradient steps."""
PT_INTERVALS = 16
"""Intervals between the 17 decisions of --selection perturbation in a cell of 4 nodes."""
PUBLISHED_SECONDS = {"train_search": 0.4 * 86_400, "train": 1.5 * 86_400}
"""The paper's first-order search and its training of DARTS_V2 on CIFAR-10, each on one GPU of 2018."""


class Calibration(NamedTuple):
    """What jobs take on this machine, by a few steps of each kind of job."""

    machine: str
    seconds: Mapping[str, float | None]
    """Of each job; None where it is not known."""
    images_per_second: Mapping[str, float]
    """Of the steps of each kind of job."""


def multiply_adds(job: Job, configs: Mapping[str, Any]) -> float | None:
    """Return the multiply-adds of a whole job, a backward pass counting for two forward; None where unknown."""
    if job.entry == "train_search":
        cfg = configs[job.preset]
        unrolled = "--unrolled" in job.flags or (cfg.arch_optim.unrolled and "--no_unrolled" not in job.flags)
        return _search(cfg, cfg.arch_optim.unrolled_method if unrolled else "first_order")
    if job.entry == "train":
        return _train(configs[job.preset], dict(zip(job.flags[::2], job.flags[1::2], strict=True)))
    return None


def estimate_seconds(
    jobs: Sequence[Job], configs: Mapping[str, Any], done: Sequence[JobState]
) -> tuple[dict[str, float | None], str]:
    """Return job -> seconds (None where unknown), and where the rate comes from, in words."""
    work = {job.name: multiply_adds(job, configs) for job in jobs}
    finished = {each.job.name: each.progress.seconds for each in done if each.state == "finished" and each.progress}
    rates = published_rates()
    for of in ({job.name: job.entry for job in jobs}, {job.name: job.preset for job in jobs}):
        for key in dict.fromkeys(of.values()):
            measured = [name for name in finished if of.get(name) == key and work.get(name)]
            if measured:
                rates[key] = sum(work[name] or 0.0 for name in measured) / sum(finished[name] for name in measured)
    rate = {job.name: rates.get(job.preset, rates.get(job.entry, 0.0)) for job in jobs}
    words = (
        f"by the {len(finished)} finished jobs"
        if finished
        else "by what the paper took on a GPU of 2018; today's are several times faster, a CPU is slower"
    )
    seconds = {name: total / rate[name] if total is not None else None for name, total in work.items()}
    return seconds, words


def estimate_text(
    folder: Path, configs: Mapping[str, Any], states: Sequence[JobState], calibration: Calibration | None, slots: int
) -> str:
    """Return every job's command and what it may cost, as --dry_run prints it.

    calibration: None where it was not possible. slots: how many jobs run at once.
    """
    measured = {} if calibration is None else calibration.seconds
    finished = [each for each in states if each.state == "finished"]
    pace = "as the finished jobs" if finished else "at the published pace"
    seconds, words = estimate_seconds([each.job for each in states], configs, states)
    lines = []
    for each in states:
        both = (measured.get(each.job.name), "here"), (seconds[each.job.name], pace)
        times = [f"{readable_duration(own)} {how}" for own, how in both if own is not None]
        lines.append(f"# {each.job.name}: {each.state}, about {', '.join(times) or 'an unknown time'}")
        lines.append(each.job.repeat(folder))
    count, total = _total(seconds)
    lines.append(f"# {count}: about {total / 3600:,.2f} {hours_unit(finished) if finished else 'GPU hours'}, {words}")
    if calibration is not None:
        left = {each.job.name: measured.get(each.job.name) for each in states if each.state != "finished"}
        count, total = _total(left)
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in calibration.images_per_second.items())
        lines.append(f"# {count} to do: about {readable_duration(total)} here, by steps timed on {calibration.machine}")
        at_once = min(slots, max(1, len(left)))
        lines.append(f"# {at_once} at once: about {readable_duration(total / at_once)}; images/s: {rates or 'unknown'}")
    return "\n".join(lines)


def _total(seconds: Mapping[str, float | None]) -> tuple[str, float]:
    """Return how many jobs there are, in words, and the sum of what is known."""
    known = [value for value in seconds.values() if value is not None]
    unknown = f" and {len(seconds) - len(known)} of unknown cost" if len(known) < len(seconds) else ""
    return f"{len(known)} jobs{unknown}", sum(known)


def published_rates() -> dict[str, float]:
    """Return entry -> multiply-adds per second of the published runs."""
    train = TrainConfig(model=TrainModelConfig(auxiliary=True))
    work = {"train_search": _search(SearchConfig(), "first_order"), "train": _train(train, {"--arch": "DARTS_V2"})}
    return {entry: (total or 0.0) / PUBLISHED_SECONDS[entry] for entry, total in work.items()}


def _search(cfg: SearchConfig, gradient: str) -> float | None:
    """gradient: a key of PASSES."""
    facts = _facts(cfg.data)
    if facts is None:
        return None
    model = cfg.model
    forward = _supernet_forward(
        model.init_channels, model.layers, facts.num_classes, facts.image_size, model.space, model.partial_channels,
        cfg.stem,
    )  # fmt: skip
    passes = PASSES[gradient] + (ADVERSARY_PASSES if cfg.optim.perturb == "adversarial" else 0)
    tuning = cfg.selection.selection == "perturbation"
    epochs = cfg.run.epochs + (PT_INTERVALS * cfg.selection.pt_epochs_between + 1 if tuning else 0)
    weights, alphas = cfg.data.train_portion, 1 - cfg.data.train_portion
    if not facts.in_memory:
        weights, alphas = cfg.data.weight_share, cfg.data.alpha_share
    return epochs * forward * facts.num_train * (3 * passes * weights + alphas)


def _train(cfg: TrainConfig, flags: Mapping[str, str]) -> float | None:
    facts = _facts(cfg.data)
    if facts is None:
        return None
    try:
        genotype = load_genotype(flags["--arch"])
    except ValueError:  # not found yet: about as large as the paper's
        genotype = GENOTYPES["DARTS"]
    forward = network_multiply_adds("cifar", cfg.model, facts.num_classes, facts.image_size, genotype)
    held_out = float(flags.get("--held_out", 0)) * facts.num_train
    run = replace(cfg.run, epochs=int(flags.get("--epochs", cfg.run.epochs)))
    trained = 3 * run.epochs * (facts.num_train - held_out)
    return forward * (trained + run.num_evaluations * (held_out or facts.num_test))


def _facts(cfg: DataConfig) -> DatasetFacts | None:
    return _facts_of(cfg.dataset, cfg.data, cfg.image_size)


@cache
def _facts_of(name: str, root: Path, image_size: int | None) -> DatasetFacts | None:
    """Return the size of a data set; None where it can't be read, as before its files exist."""
    try:
        return dataset_facts(name, root, image_size)
    except (ValueError, OSError):
        return None


@cache
def _supernet_forward(
    init_channels: int, layers: int, classes: int, side: int, space: str, partial: int, stem: str
) -> int:
    with torch.device("meta"):
        supernet = build_supernet(
            "plain", init_channels, layers, classes, stem=stem, space=SPACES[space], partial_channels=partial
        )
    return measure_costs(supernet, side).multiply_adds


@cache
def network_multiply_adds(stem: str, model: TrainModelConfig, classes: int, side: int, genotype: Genotype) -> int:
    """Return the multiply-adds of a network for one image. stem: a key of models.derived.STEMS."""
    with torch.device("meta"):
        network = DerivedNetwork(stem, model.init_channels, classes, model.layers, model.auxiliary, genotype)
    return measure_costs(network, side).multiply_adds
