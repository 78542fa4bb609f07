"""From N searches to a table: python -m darts_hpc.campaign --config FILE; campaign status|report|cancel DIR."""

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from darts_hpc.campaigns.control import cancel_campaign, read_states, run_campaign, stop_jobs
from darts_hpc.campaigns.executors import make_executor, num_gpus
from darts_hpc.campaigns.families import families
from darts_hpc.campaigns.folder import campaign_folder, check_same, check_version, search_presets, write_folder
from darts_hpc.campaigns.plan import PRESETS, make_plan
from darts_hpc.campaigns.report import write_report
from darts_hpc.campaigns.status import summary_line, watch
from darts_hpc.config.campaign import CampaignConfig, CampaignFolderConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.config.combinations import check_space
from darts_hpc.config.flags import flat
from darts_hpc.config.presets import ENTRIES, read_yaml
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.locks import lock_run_folder
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.space.spaces import SPACES
from darts_hpc.suggest import did_you_mean
from darts_hpc.terminal import outlive_terminal
from darts_hpc.user_files import exists, is_folder, list_folder, shown

log = logging.getLogger("darts_hpc")

STEMS = {"train_search": "search", "train": "train", "train_imagenet": "imagenet"}
"""Entry -> what the flags of its preset begin with."""


def main(cfg: CampaignConfig) -> None:
    """Start a campaign, or go on with it, and report when everything is done."""
    folder = campaign_folder(cfg.where.save)
    configs = presets(cfg)
    for name in cfg.train.baselines:
        if name not in GENOTYPES:
            raise ValueError(f"--baselines {name} is no published cell; {did_you_mean(name, GENOTYPES)}")
    is_new = not exists(folder / "campaign.yaml")
    if not is_new:
        check_version(folder)
        check_same(folder, presets_of(folder), configs)
    elif exists(folder) and (not is_folder(folder) or list_folder(folder)):
        raise ValueError(f"--save {folder} holds something else; choose another, or an empty folder")
    if cfg.where.dry_run:
        print(dry_run(cfg, folder, configs))
        return
    if any(each.state != "finished" for each in read_states(cfg, folder)):
        check_images(configs)
    executor = make_executor(cfg, folder, num_gpus())
    with lock_run_folder(folder), log_to_terminal():
        # what may have changed, such as --memory_check in --search_flags or a new variant, is for the jobs to come
        write_folder(cfg, folder, configs, shlex.join(["python", "-m", "darts_hpc.campaign", *sys.argv[1:]]))
        log.info("campaign folder: %s", folder)
        try:
            states = run_campaign(cfg, folder, executor)
        except KeyboardInterrupt:
            log.info("asking the jobs to save and stop")
            left = stop_jobs(folder, read_states(cfg, folder, executor.active), executor)
            running = f"; still saving: {', '.join(left)}" if left else ""
            log.info("stopped%s; the same command goes on", running)
            raise
        print(write_report(cfg, folder, states))
    print(summary_line(states))
    if any(each.state in ("failed", "blocked") for each in states):
        sys.exit(1)


def dry_run(cfg: CampaignConfig, folder: Path, configs: Mapping[str, Any]) -> str:
    """Return every job's command and what it may cost: by a calibration of this machine, and by published runs."""
    from darts_hpc.campaigns.estimate import estimate_text  # imports torch
    from darts_hpc.commands.calibrate import calibrate

    states = read_states(cfg, folder)
    try:
        calibration = calibrate([each.job for each in states], configs, cfg.size.device, cfg.size.cpus_per_job)
    except ValueError as error:  # such as a GPU that only the jobs' machines have
        print(f"no times of this machine: {error}", file=sys.stderr)
        calibration = None
    gpus = num_gpus() if cfg.size.device != "cpu" else 0
    at_once = gpus // cfg.size.gpus_per_job if gpus else (os.cpu_count() or 1) // cfg.size.cpus_per_job
    slots = cfg.where.jobs or (len(states) if cfg.where.executor == "slurm" else max(1, at_once))
    return estimate_text(folder, configs, states, calibration, slots)


def status(cfg: CampaignFolderConfig) -> None:
    """Show the jobs, live on a terminal."""
    folder, campaign = open_campaign(cfg.folder)
    watch(folder, lambda: read_states(campaign, folder))


def report(cfg: CampaignFolderConfig) -> None:
    """Write the report of what there is so far."""
    folder, campaign = open_campaign(cfg.folder)
    print(write_report(campaign, folder, read_states(campaign, folder)))


def cancel(cfg: CampaignFolderConfig) -> None:
    """Ask the campaign, and its jobs wherever they run, to save and stop."""
    folder, campaign = open_campaign(cfg.folder)
    for line in cancel_campaign(campaign, folder):
        print(line)


def presets(cfg: CampaignConfig) -> dict[str, Any]:
    """Return the configurations that the campaign's files hold, by file name.

    Raises ValueError, one line, for the first preset or flag that its entry would refuse.
    """
    data = ["--data", str(cfg.where.data)] if cfg.where.data is not None else []
    found: dict[str, Any] = {"campaign.yaml": cfg}
    search = ["--config", cfg.search.search_config, *words("search", cfg.search.search_flags), *data]
    for family in families(cfg).values():
        if family.space and not family.is_random:
            with naming(f"{family.title}: "):
                found[family.preset] = searched([*search, *family.flags])
    if not cfg.search.spaces:
        with naming("--search_config and --search_flags: "):
            found[PRESETS["train_search"]] = searched(search)
    train = ["--config", cfg.train.train_config, *words("train", cfg.train.train_flags), *data]
    with naming("--train_config and --train_flags: "):
        found[PRESETS["train"]] = parse_config(ENTRIES["train"], train)
    if cfg.train.imagenet_config:
        imagenet = ["--config", cfg.train.imagenet_config, *words("imagenet", cfg.train.imagenet_flags)]
        with naming("--imagenet_config and --imagenet_flags: "):
            found[PRESETS["train_imagenet"]] = parse_config(ENTRIES["train_imagenet"], imagenet)
    check_jobs(cfg, {PRESETS["train_search"]: search, PRESETS["train"]: train})
    return found


def searched(flags: Sequence[str]) -> SearchConfig:
    """Return the configuration of a search. Raises ValueError, one line, where its entry would refuse it."""
    cfg = parse_config(SearchConfig, flags)
    check_space(cfg, SPACES[cfg.model.space])
    return cfg


def words(stem: str, flags: str) -> list[str]:
    """Return the words of --STEM_flags, as a shell would split them."""
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise ValueError(f"--{stem}_flags {shown(flags)}: expected flags as in a shell ({error})") from None


def check_jobs(cfg: CampaignConfig, given: Mapping[str, Sequence[str]]) -> None:
    """Check the flags that jobs add to their presets: one job for each kind, whatever its cell and its seed.

    given: preset -> the flags that it is made of.
    """
    kinds = {}
    for job in make_plan(cfg, Path(), {}):
        if job.preset in given:
            flags = tuple("DARTS" if before == "--arch" else word for before, word in pairwise(("", *job.flags)))
            kinds.setdefault((job.preset, flags), job)
    for (preset, flags), job in kinds.items():
        with naming(f"{preset}, with what the job {job.name} adds: "):
            parse_config(ENTRIES[job.entry], [*given[preset], *flags])


def check_images(configs: Mapping[str, Any]) -> None:
    """Raise ValueError, one line, where the folder that searches or trainings read images from can't be one."""
    from darts_hpc.data.sets.load import dataset_facts  # imports torch

    asked = [cfg.data for cfg in configs.values() if isinstance(cfg, SearchConfig | TrainConfig)]
    for name, root, image_size in dict.fromkeys((data.dataset, data.data, data.image_size) for data in asked):
        dataset_facts(name, root, image_size)


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Say what a ValueError is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}{error}") from None


def open_campaign(folder: Path) -> tuple[Path, CampaignConfig]:
    """Return a campaign's folder, absolute, and its configuration.

    Raises ValueError, one line, where that is cut: with defaults for what is missing it would be another campaign.
    """
    folder = folder.absolute()
    check_version(folder)
    path = folder / "campaign.yaml"
    cfg = parse_config(CampaignConfig, ["--config", str(path), "--save", f"{folder}/"])
    if missing := [name for name in flat(cfg) if name not in read_yaml(path)]:
        raise ValueError(
            f"{path} is damaged: it has no {missing[-1]}, and a campaign writes every flag; bring back the whole file"
        )
    return folder, cfg


def presets_of(folder: Path) -> dict[str, Any]:
    """Return the configurations in a campaign's folder, by file name."""
    classes = {"campaign.yaml": CampaignConfig} | {name: ENTRIES[entry] for entry, name in PRESETS.items()}
    classes |= dict.fromkeys(search_presets(folder), ENTRIES["train_search"])
    return {
        name: parse_config(cls, ["--config", str(folder / name)])
        for name, cls in classes.items()
        if exists(folder / name)
    }


@contextlib.contextmanager
def log_to_terminal() -> Iterator[None]:
    """Print the campaign's log with the time."""
    outlive_terminal(stdout=True)  # the report is in its folder, too
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
