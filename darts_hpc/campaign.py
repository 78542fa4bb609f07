"""From N searches to a table: python -m darts_hpc.campaign --config FILE; campaign status|report|cancel DIR."""

import contextlib
import dataclasses
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from darts_hpc.campaigns.control import cancel_mark, look, run_campaign, stop_jobs
from darts_hpc.campaigns.executors import make_executor
from darts_hpc.campaigns.folder import campaign_folder, check_same, check_version, write_folder
from darts_hpc.campaigns.page import to_html
from darts_hpc.campaigns.plan import PRESETS, make_plan
from darts_hpc.campaigns.report import read_campaign
from darts_hpc.campaigns.state import JobState
from darts_hpc.campaigns.status import summary_line, watch
from darts_hpc.campaigns.tables import to_json, to_markdown, to_terminal
from darts_hpc.config.campaign import CampaignConfig, CampaignFolderConfig
from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.flags import flat
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.locks import is_locked, lock_run_folder
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.suggest import did_you_mean
from darts_hpc.units import readable_duration

CANCEL_PATIENCE_S = 90

log = logging.getLogger("darts_hpc")


def main(cfg: CampaignConfig) -> None:
    """Start a campaign, or go on with it, and report when everything is done."""
    folder = campaign_folder(cfg.where.save)
    configs = presets(cfg)
    for name in cfg.train.baselines:
        if name not in GENOTYPES:
            raise ValueError(f"--baselines {name} is no published cell; {did_you_mean(name, GENOTYPES)}")
    is_new = not (folder / "campaign.yaml").is_file()
    if not is_new:
        check_version(folder)
        check_same(folder, flags_of_folder(folder), {name: flat(config) for name, config in configs.items()})
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--save {folder} holds something else; choose another, or an empty folder")
    if cfg.where.dry_run:
        dry_run(cfg, folder, configs)
        return
    executor = make_executor(cfg, folder, num_gpus())
    with lock_run_folder(folder), log_to_terminal():
        if is_new:
            command = shlex.join(["python", "-m", "darts_hpc.campaign", *sys.argv[1:]])
            files = {name: to_yaml(config, f"{name} of {folder}") for name, config in configs.items()}
            write_folder(cfg, folder, files, command)
        log.info("campaign folder: %s", folder)
        try:
            states = run_campaign(cfg, folder, executor)
        except KeyboardInterrupt:
            log.info("asking the jobs to save and stop")
            left = stop_jobs(folder, look(cfg, folder, executor.active), executor)
            running = f"; still saving: {', '.join(left)}" if left else ""
            log.info("stopped%s; the same command goes on", running)
            raise
        write_report(cfg, folder, states)
    print(summary_line(states))
    if any(each.state in ("failed", "blocked") for each in states):
        sys.exit(1)


def status(cfg: CampaignFolderConfig) -> None:
    """Show the jobs, live on a terminal."""
    folder, campaign = open_campaign(cfg.folder)
    watch(folder, lambda: look(campaign, folder))


def report(cfg: CampaignFolderConfig) -> None:
    """Write the report of what there is so far."""
    folder, campaign = open_campaign(cfg.folder)
    write_report(campaign, folder, look(campaign, folder))


def cancel(cfg: CampaignFolderConfig) -> None:
    """Ask the campaign, and its jobs wherever they run, to save and stop."""
    folder, campaign = open_campaign(cfg.folder)
    running = [each for each in look(campaign, folder) if each.state == "running"]
    if is_locked(folder):  # it stops its jobs itself; were they asked here too, it would start them again
        cancel_mark(folder).touch()
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while is_locked(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        left = "is still stopping its jobs" if is_locked(folder) else f"has stopped, and its {len(running)} jobs"
        print(f"the campaign {left}; the same command goes on")
        return
    cancel_mark(folder).touch()  # for a campaign on another machine, whose lock can't be seen from here
    for name in sorted({each.record.attempts[-1].executor for each in running if each.record.attempts}):
        executor = make_executor(with_executor(campaign, name), folder, num_gpus=0)
        own = [each for each in running if each.record.attempts[-1].executor == name]
        left = stop_jobs(folder, own, executor)
        print(f"{len(own) - len(left)} jobs stopped" + (f", still saving: {', '.join(left)}" if left else ""))
    if not running:
        print("nothing runs")


def presets(cfg: CampaignConfig) -> dict[str, Any]:
    """Return the configurations that the campaign's files hold, by file name."""
    search = ["--config", cfg.search.search_config, *shlex.split(cfg.search.search_flags)]
    train = ["--config", cfg.train.train_config, *shlex.split(cfg.train.train_flags)]
    found: dict[str, Any] = {"campaign.yaml": cfg}
    found[PRESETS["train_search"]] = parse_config(SearchConfig, search)
    found[PRESETS["train"]] = parse_config(TrainConfig, train)
    if cfg.train.imagenet_config:
        imagenet = ["--config", cfg.train.imagenet_config, *shlex.split(cfg.train.imagenet_flags)]
        found[PRESETS["train_imagenet"]] = parse_config(imagenet_config(), imagenet)
    return found


def write_report(cfg: CampaignConfig, folder: Path, states: Sequence[JobState]) -> None:
    """Write report.html, report.md and report.json, and print the table and where they are."""
    campaign = read_campaign(cfg, folder, states)
    output = folder / "report"
    output.mkdir(exist_ok=True)
    (output / "report.html").write_text(to_html(campaign), encoding="utf-8")
    (output / "report.md").write_text(to_markdown(campaign), encoding="utf-8")
    (output / "report.json").write_text(to_json(campaign), encoding="utf-8")
    print(to_terminal(campaign))
    if campaign.correlation is not None:
        print(f"ranking against final accuracy: {campaign.correlation}")
    print(f"report: {output / 'report.html'}")


def dry_run(cfg: CampaignConfig, folder: Path, configs: dict[str, Any]) -> None:
    """Print every job's command and what it may cost."""
    from darts_hpc.campaigns.estimate import estimate_seconds  # imports torch

    states = look(cfg, folder)
    jobs = [each.job for each in states] or make_plan(cfg, folder, {})
    seconds, words = estimate_seconds(jobs, configs, states)
    for each in states:
        own = seconds[each.job.name]
        print(f"# {each.job.name}: {each.state}, about {'an unknown time' if own is None else readable_duration(own)}")
        print(each.job.repeat(folder))
    known = [value for value in seconds.values() if value is not None]
    unknown = f" and {len(seconds) - len(known)} of unknown cost" if len(known) < len(seconds) else ""
    print(f"# {len(known)} jobs{unknown}: about {sum(known) / 3600:,.2f} GPU hours, {words}")


def open_campaign(folder: Path) -> tuple[Path, CampaignConfig]:
    """Return a campaign's folder, absolute, and its configuration."""
    folder = folder.absolute()
    check_version(folder)
    return folder, parse_config(CampaignConfig, ["--config", str(folder / "campaign.yaml"), "--save", f"{folder}/"])


def flags_of_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Return file -> flag -> value of the configurations in a campaign's folder."""
    classes: dict[str, Any] = {"campaign.yaml": CampaignConfig, "search.yaml": SearchConfig, "train.yaml": TrainConfig}
    if (folder / PRESETS["train_imagenet"]).is_file():
        classes[PRESETS["train_imagenet"]] = imagenet_config()
    return {name: flat(parse_config(cls, ["--config", str(folder / name)])) for name, cls in classes.items()}


def imagenet_config() -> Any:
    """Return the configuration class of train_imagenet."""
    from darts_hpc.config import train_imagenet as imagenet

    return imagenet.ImageNetConfig


def with_executor(cfg: CampaignConfig, name: str) -> CampaignConfig:
    """Return the same campaign on another executor."""
    return dataclasses.replace(cfg, where=dataclasses.replace(cfg.where, executor=name))


def num_gpus() -> int:
    """Return how many GPUs this machine shows."""
    import torch

    return torch.cuda.device_count()


@contextlib.contextmanager
def log_to_terminal() -> Iterator[None]:
    """Print the campaign's log with the time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


COMMANDS = {"status": status, "report": report, "cancel": cancel}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        run_entry(COMMANDS[sys.argv.pop(1)], CampaignFolderConfig)
    else:
        run_entry(main, CampaignConfig)
