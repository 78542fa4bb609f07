"""What a campaign's jobs take on this machine, by a few steps of each kind of job, whose times are kept in a cache."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch

import darts_hpc
from darts_hpc import strict_json
from darts_hpc.campaigns.estimate import Calibration, network_multiply_adds
from darts_hpc.campaigns.folder import write_presets
from darts_hpc.campaigns.plan import Job
from darts_hpc.commands.time_steps import Times, time_steps
from darts_hpc.commands.train import facts_of
from darts_hpc.config.cli import parse_config
from darts_hpc.config.flags import affecting, flat
from darts_hpc.config.presets import ENTRIES
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.imagenet.load import expected_facts
from darts_hpc.data.sets.load import dataset_facts
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.durable import write_atomically
from darts_hpc.errors import is_out_of_memory
from darts_hpc.search.early_stop import EarlyStop
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.user_files import read_json

AnyConfig = SearchConfig | TrainConfig | ImageNetConfig

REFERENCE = "DARTS_V2"
"""The cell whose training is timed. Another one's takes as much more time as it has more multiply-adds."""
ANY_LENGTH = frozenset({"seed", "epochs", "arch", "held_out", "train_portion", "split"})
ANY_LENGTH |= {"synthetic_images", "weight_share", "alpha_share"}
"""Flags that change how many steps there are, or their numbers, but not how long one takes."""
MOST_KEPT = 200


class Kind(NamedTuple):
    """Jobs whose steps take the same time: the first one's configuration, and the size of its data set if known."""

    name: str
    cfg: AnyConfig
    facts: DatasetFacts | None


def calibrate(jobs: Sequence[Job], configs: Mapping[str, Any], device: str, num_threads: int) -> Calibration:
    """Return what each job takes here, by timing each distinct kind of job, or by what was timed earlier.

    Raises ValueError where this machine has no such device.
    """
    start = time.process_time()  # as long as a job takes to import this package
    with tempfile.TemporaryDirectory() as folder, World.open(device) as world, threads(num_threads):
        write_presets(Path(folder), {name: cfg for name, cfg in configs.items() if name != "campaign.yaml"})
        parsed: dict[tuple[str, ...], AnyConfig] = {}
        asked = {job.name: config_of(job, Path(folder), parsed) for job in jobs}
        where = machine(world.device, num_threads)
        kinds: dict[str, Kind] = {}
        key_of: dict[str, str] = {}
        for job in jobs:
            cfg = asked[job.name]
            facts = known_facts(cfg)
            key = strict_json.dumps([where, job.entry, step_flags(cfg), facts and facts[2:]])
            name = job.name.rpartition("-seed")[0] if job.stage == "search" else job.entry
            kinds.setdefault(key, Kind(name, cfg, facts))
            key_of[job.name] = key
        times = timed_or_kept(kinds, world)
    seconds: dict[str, float | None] = {}
    for name, key in key_of.items():
        own, facts = times.get(key), kinds[key].facts
        seconds[name] = None if own is None or facts is None else start + job_seconds(asked[name], facts, own)
    rates = {kinds[key].name: own.batch_size / own.step for key, own in times.items() if own is not None}
    return Calibration(where, seconds, rates)


def timed_or_kept(kinds: Mapping[str, Kind], world: World) -> dict[str, Times | None]:
    """Return the times of each kind of job, by its key: kept ones, else new ones, which are then kept."""
    path = cache_path()
    times: dict[str, Times | None] = {**read_times(path)}
    missing = [key for key, kind in kinds.items() if key not in times and kind.facts is not None]
    for number, key in enumerate(missing, start=1):
        kind = kinds[key]
        print(f"timing {number} of {len(missing)}: steps of {kind.name}", file=sys.stderr, flush=True)
        try:
            times[key] = time_steps(_with_reference(kind.cfg), kind.facts, world)  # pyright: ignore[reportArgumentType]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            print(f"no times of {kind.name}: {error}", file=sys.stderr)
            times[key] = None
    if missing:
        write_times(path, {key: own for key, own in times.items() if own is not None})
    return {key: times.get(key) for key in kinds}


def job_seconds(cfg: AnyConfig, facts: DatasetFacts, times: Times) -> float:
    """Return what a whole job takes: its steps, its evaluations, and what its method does besides."""
    besides, larger, epochs = times.start, 1.0, cfg.run.epochs
    if isinstance(cfg, SearchConfig):
        num_train = int(facts.num_train * cfg.data.train_portion)
        num_valid = facts.num_train - num_train
        if cfg.data.dataset == "imagenet":
            num_train, num_valid = (
                int(facts.num_train * share) for share in (cfg.data.weight_share, cfg.data.alpha_share)
            )
        early_stop = EarlyStop(cfg.early_stop, epochs, cfg.optim.weight_decay)
        besides += times.eigenvalue * sum(map(early_stop.is_due, range(epochs)))
        if cfg.selection.selection == "perturbation":
            space, batches = SPACES[cfg.model.space], ceil(num_valid / times.eval_batch_size)
            epochs += (len(space.normal) + space.num_nodes - 2) * cfg.selection.pt_epochs_between + 1
            # in both kinds of cells each operation of each edge is left out once, and then one edge after another of
            # those that enter a node, each time the one that is missed least, until two are left
            edges = sum(sum(range(3, number + 1)) for number in range(3, space.num_nodes + 2))
            left_out = 2 * (sum(map(len, space.normal)) + edges)
            besides += left_out * min(batches, cfg.selection.pt_batches or batches) * times.evaluation
        evaluations = epochs
    else:
        held_out = int(getattr(cfg.data, "held_out", 0) * facts.num_train)
        num_train, num_valid = facts.num_train - held_out, held_out or facts.num_test
        stem = "imagenet" if isinstance(cfg, ImageNetConfig) else "cifar"
        own, reference = (
            network_multiply_adds(stem, cfg.model, facts.num_classes, facts.image_size, load_genotype(arch))
            for arch in (cfg.model.arch, REFERENCE)
        )
        larger, evaluations = own / reference, cfg.run.num_evaluations
    training = epochs * (num_train // times.batch_size) * times.step
    return besides + larger * (training + evaluations * ceil(num_valid / times.eval_batch_size) * times.evaluation)


def config_of(job: Job, folder: Path, parsed: dict[tuple[str, ...], AnyConfig]) -> AnyConfig:
    """Return the configuration of a job whose presets lie in a folder; REFERENCE stands for a cell not yet found.

    parsed: configurations by preset and flags, for jobs that differ in their seed or their cell alone.
    """
    flags, arch = list(job.flags), None
    if "--arch" in flags:
        at = flags.index("--arch") + 1
        arch, flags[at] = flags[at], REFERENCE
    key = job.preset, *flags
    if key not in parsed:
        parsed[key] = parse_config(ENTRIES[job.entry], ["--config", str(folder / job.preset), *flags])
    cfg = parsed[key]
    if arch is None or isinstance(cfg, SearchConfig):
        return cfg
    try:
        load_genotype(arch)
    except ValueError:
        return cfg
    return replace(cfg, model=replace(cfg.model, arch=arch))


def known_facts(cfg: AnyConfig) -> DatasetFacts | None:
    """Return the size of a job's data set; None where it can't be read, as before its files exist."""
    try:
        if isinstance(cfg, ImageNetConfig):
            return expected_facts(cfg.data)
        if isinstance(cfg, TrainConfig):
            return facts_of(cfg)
        if cfg.data.dataset == "imagenet":
            return expected_facts(cfg.imagenet())
        return dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size)
    except ValueError:
        return None


def step_flags(cfg: AnyConfig) -> dict[str, Any]:
    """Return the flags that may change how long a step takes, or whether it is taken."""
    left_out = ANY_LENGTH | set(affecting(type(cfg), "nothing")) - {"memory_check", "memory_limit"}
    return {name: value for name, value in flat(cfg).items() if name not in left_out}


def machine(device: torch.device, num_threads: int) -> str:
    """Return the name of the device, and the versions of what computes on it."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.exists() else []
        models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        name = f"{models[0] if models else platform.processor()}, {num_threads} threads"
    return f"{name}, torch {torch.__version__}, darts_hpc {darts_hpc.__version__}"


def cache_path() -> Path | None:
    """Return the file that keeps times; None for a user without a home."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(root) / "darts_hpc" / "step_times.json"


def read_times(path: Path | None) -> dict[str, Times]:
    """Return the kept times by their key; nothing of a file that is missing or not as write_times leaves it."""
    try:
        content = read_json(path) if path is not None else {}
        return {key: _checked(values) for key, values in content.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def write_times(path: Path | None, times: Mapping[str, Times]) -> None:
    """Keep the newest times; where nothing can be written, they are timed again."""
    if path is None:
        return
    newest = dict(list(times.items())[-MOST_KEPT:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (strict_json.dumps(newest) + "\n").encode())
    except (OSError, ValueError):
        return


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with as many threads as a job will."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with_reference(cfg: AnyConfig) -> AnyConfig:
    """Return a training's configuration with the cell that is timed."""
    if isinstance(cfg, SearchConfig):
        return cfg
    return replace(cfg, model=replace(cfg.model, arch=REFERENCE))


def _checked(values: Sequence[Any]) -> Times:
    times = Times(*values)
    for size in (times.batch_size, times.eval_batch_size):
        if type(size) is not int or size < 1:
            raise ValueError(f"{size!r} is no batch size")
    if not all(isinstance(value, int | float) and isfinite(value) and value >= 0 for value in times) or not times.step:
        raise ValueError(f"{values!r} are no times")
    return times
