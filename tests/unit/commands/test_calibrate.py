"""What a campaign's jobs take here follows from times of single steps, which are measured once and kept."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_hpc.campaigns.plan import Job, make_plan
from darts_hpc.commands import calibrate, time_steps
from darts_hpc.commands.calibrate import job_seconds, read_times, write_times
from darts_hpc.commands.time_steps import Times
from darts_hpc.config.campaign import CampaignConfig, CampaignSearchConfig, CampaignTrainConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig, SelectionConfig
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.selection import PerturbationSelection, Score, random_orders
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.space.spaces import SPACES

SMALL = ["--dataset", "digits", "--image_size", "8", "--init_channels", "4", "--layers", "3", "--device", "cpu"]
FACTS = DatasetFacts(1000, 205, 8, 10)
TIMES = Times(batch_size=100, step=2.0, eval_batch_size=100, evaluation=0.5, eigenvalue=7.0, start=3.0)


def search(*flags: str) -> SearchConfig:
    return parse_config(SearchConfig, [*SMALL, "--epochs", "10", "--batch_size", "100", *flags])


def train(*flags: str) -> TrainConfig:
    return parse_config(TrainConfig, [*SMALL, "--epochs", "10", "--batch_size", "100", "--arch", "DARTS_V2", *flags])


def test_a_search_costs_its_steps_its_validation_and_its_eigenvalues():
    assert job_seconds(search(), FACTS, TIMES) == 3 + 10 * (5 * 2 + 5 * 0.5)
    assert job_seconds(search("--train_portion", "0.75"), FACTS, TIMES) == 3 + 10 * (7 * 2 + 3 * 0.5)
    shares = search("--dataset", "imagenet", "--image_size", "32", "--weight_share", "0.3", "--alpha_share", "0.2")
    assert job_seconds(shares, FACTS, TIMES) == 3 + 10 * (3 * 2 + 2 * 0.5)
    every = search("--record_eigenvalue", "--eigenvalue_every", "4")  # after epochs 1, 5, 9 and the last one
    assert job_seconds(every, FACTS, TIMES) - job_seconds(search(), FACTS, TIMES) == 4 * 7


@pytest.mark.parametrize("space", ["darts_no_none", "s2"])
def test_a_selection_by_perturbation_costs_as_many_epochs_and_evaluations_as_it_takes(space):
    cfg = SelectionConfig(selection="perturbation", pt_epochs_between=3)
    supernet = build_supernet("plain", 2, 3, 10, space=SPACES[space])
    selection = PerturbationSelection(Architecture(supernet), SPACES[space], cfg, *random_orders(0, SPACES[space]))
    scored: list[Any] = []
    for _ in range(selection.num_decisions):
        list(selection.decide(lambda mixing: scored.append(mixing) or Score(50.0, 1.0), None))
    base = search("--space", space)
    added = job_seconds(replace(base, selection=cfg), FACTS, TIMES) - job_seconds(base, FACTS, TIMES)
    assert added == selection.num_epochs * (5 * 2 + 5 * 0.5) + len(scored) * 5 * 0.5
    few = replace(base, selection=replace(cfg, pt_batches=2))
    assert job_seconds(few, FACTS, TIMES) - job_seconds(base, FACTS, TIMES) == pytest.approx(
        added - len(scored) * 3 * 0.5
    )


def test_a_training_costs_its_steps_and_its_tests_in_proportion_to_its_cells_multiply_adds():
    whole = job_seconds(train(), FACTS, TIMES)
    assert whole == 3 + 10 * (10 * 2 + 3 * 0.5)
    assert job_seconds(train("--held_out", "0.2"), FACTS, TIMES) == 3 + 10 * (8 * 2 + 2 * 0.5)
    assert job_seconds(train("--eval_freq", "4"), FACTS, TIMES) == 3 + 10 * 10 * 2 + 3 * 3 * 0.5
    adds = [
        measure_costs(DerivedNetwork("cifar", 4, 10, 3, False, GENOTYPES[name]), 8).multiply_adds
        for name in ("DARTS_V2", "NASNet")
    ]
    other = job_seconds(train("--arch", "NASNet"), FACTS, TIMES)
    assert (other - 3) / (whole - 3) == pytest.approx(adds[1] / adds[0]) and adds[0] != adds[1]
    imagenet = parse_config(ImageNetConfig, ["--loader", "synthetic", "--epochs", "2", "--arch", "DARTS_V2"])
    facts = DatasetFacts(1280, 256, 224, 1000, in_memory=False)
    sizes = TIMES._replace(batch_size=128, eval_batch_size=64)
    assert job_seconds(imagenet, facts, sizes) == 3 + 2 * (10 * 2 + 4 * 0.5)


CFG = CampaignConfig(
    search=CampaignSearchConfig(order="both", search_seeds=(0, 1), random_cells=1),
    train=CampaignTrainConfig(final_seeds=(0,), baselines=("DARTS_V1",), baseline_seeds=(0,), select_epochs=1),
)
PRESETS = {"campaign.yaml": CFG, "search.yaml": search(), "train.yaml": train()}


@pytest.fixture
def timed(monkeypatch, tmp_path) -> list[Any]:
    """The configurations that were timed, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    configs: list[Any] = []
    monkeypatch.setattr(
        calibrate,
        "time_steps",
        lambda cfg, facts, world: configs.append(cfg) or TIMES._replace(batch_size=50, eval_batch_size=50),
    )
    return configs


def jobs() -> list[Job]:
    return make_plan(CFG, Path("/nowhere"), {})


def test_each_kind_of_job_is_timed_once_and_kept_for_the_next_call_and_no_longer_than_it_holds(timed, tmp_path):
    found = calibrate.calibrate(jobs(), PRESETS, "cpu", 1)
    assert [type(cfg).__name__ for cfg in timed] == ["SearchConfig", "SearchConfig", "TrainConfig"]
    assert [cfg.arch_optim.unrolled for cfg in timed[:2]] == [False, True]
    assert set(found.seconds) == {job.name for job in jobs()} and None not in found.seconds.values()
    assert found.images_per_second == {"search-first_order": 25, "search-unrolled": 25, "train": 25}
    again = calibrate.calibrate(jobs(), PRESETS, "cpu", 1)
    assert len(timed) == 3 and again.seconds.keys() == found.seconds.keys()
    calibrate.calibrate(jobs(), {**PRESETS, "train.yaml": train("--layers", "4")}, "cpu", 1)
    assert len(timed) == 3 + 1
    calibrate.calibrate(jobs(), PRESETS, "cpu", 2)  # other threads
    assert len(timed) == 4 + 3
    calibrate.calibrate(jobs(), {**PRESETS, "train.yaml": train("--memory_limit", "1GB")}, "cpu", 1)
    assert len(timed) == 7 + 1  # its steps may have another form, or be refused


def test_a_data_set_that_is_not_there_leaves_its_jobs_unknown_and_a_folder_of_images_is_counted(timed, tmp_path):
    flags = ["--dataset", "folder", "--image_size", "8", "--data", str(tmp_path / "images")]
    presets = {**PRESETS, "search.yaml": search(*flags)}
    found = calibrate.calibrate(jobs(), presets, "cpu", 1).seconds
    assert found["search-first_order-seed0"] is None and found["final-DARTS_V1-seed0"] is not None
    for part, number in (("train", 200), ("test", 5)):
        for name in ("ant", "bee"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(number):
                (tmp_path / "images" / part / name / f"{i}.png").touch()
    known = calibrate.calibrate(jobs(), presets, "cpu", 1).seconds["search-first_order-seed0"]
    assert known is not None and known - 3 >= 10 * (200 // 50 * 2 + 200 // 50 * 0.5)


def test_times_are_kept_as_they_are_and_anything_else_in_their_file_is_passed_over(tmp_path):
    path = tmp_path / "a" / "times.json"
    write_times(path, {"kind": TIMES})
    assert read_times(path) == {"kind": TIMES}
    good: list[Any] = [10, 1, 10, 1, 0, 0]
    for values in (5, good[:2], *([*good[:at], bad, *good[at + 1 :]] for at in range(6) for bad in (-1, "10", None))):
        path.write_text(json.dumps({"kind": values}))
        assert read_times(path) == {}
    path.write_text('{"kind": [10, 1e999, 10, 1, 0, 0]}')
    assert read_times(path) == {}
    for damaged in ("", "[]", "7", "\0"):
        path.write_text(damaged)
        assert read_times(path) == {}
    write_times(tmp_path / "a" / "times.json" / "below a file", {"kind": TIMES})
    assert read_times(None) == {} and list((tmp_path / "a").iterdir()) == [path]


TINY_IMAGENET = ["--loader", "synthetic", "--image_size", "32", "--init_channels", "4", "--layers", "3"]
TINY_IMAGENET += ["--batch_size", "3", "--device", "cpu"]


@pytest.mark.parametrize(
    "cfg",
    [
        search("--perturb", "adversarial", "--space", "s4", "--record_eigenvalue", "--batch_size", "4"),
        train("--network", "fast", "--auxiliary", "--cutout", "--label_smooth", "0.1", "--ema", "0.9"),
        parse_config(ImageNetConfig, [*TINY_IMAGENET, "--global_batch_size", "6", "--valid_batch_size", "5"]),
    ],
)
def test_every_kind_of_step_can_be_timed(cfg, monkeypatch):
    monkeypatch.setattr(time_steps, "ENOUGH", 0.0)
    times = time_steps.time_steps(cfg, FACTS, World(torch.device("cpu")))
    is_search = isinstance(cfg, SearchConfig)
    assert times.batch_size == ((not is_search and cfg.optim.global_batch_size) or cfg.data.batch_size)
    assert times.eval_batch_size == getattr(cfg.data, "valid_batch_size", cfg.data.batch_size)
    assert times.step > 0 and times.evaluation > 0
    assert (times.eigenvalue > 0) == (is_search and cfg.early_stop.record_eigenvalue)


def test_a_step_is_timed_in_the_form_that_fits_and_not_at_all_where_none_does(tmp_path, monkeypatch, capsys):
    built: list[bool] = []
    choose = time_steps.choose_network
    monkeypatch.setattr(
        time_steps, "choose_network", lambda *args: built.append(args[1].cells.checkpoint_cells) or choose(*args)
    )
    monkeypatch.setattr(time_steps, "ENOUGH", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    world = World(torch.device("cpu"))
    step = plan_training(train("--layers", "8"), FACTS, world).step
    least = replace(step, checkpoint_cells=True).needed_bytes(100, 4)
    assert least < step.needed_bytes(100, 4)
    time_steps.time_steps(train("--layers", "8", "--memory_limit", f"{least}B"), FACTS, world)
    assert built == [True]
    for cfg in (train("--memory_limit", "1000B"), search("--space", "s2", "--memory_limit", "1000B")):
        found = calibrate.timed_or_kept({"kind": calibrate.Kind("it", cfg, FACTS)}, world)
        assert found == {"kind": None} and "no times of it: a step needs" in capsys.readouterr().err
    assert built == [True]


def test_a_step_too_long_to_repeat_is_timed_at_few_images(monkeypatch):
    monkeypatch.setattr(time_steps, "LONGEST", 0.0)
    sizes = []
    made_up = time_steps._made_up
    monkeypatch.setattr(time_steps, "_made_up", lambda *args, **more: sizes.append(args[2]) or made_up(*args, **more))
    times = time_steps.time_steps(train(), FACTS, World(torch.device("cpu")))
    assert sizes == [time_steps.FEW] * 2 and times.batch_size == times.eval_batch_size == 100
