"""What a campaign may cost, by the published runs' rate and by that of finished jobs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darts_hpc.campaigns.estimate import estimate_seconds, estimate_text
from darts_hpc.campaigns.plan import Job, make_plan
from darts_hpc.campaigns.state import JobState, Record
from darts_hpc.config.campaign import CampaignConfig, CampaignSearchConfig, CampaignTrainConfig
from darts_hpc.config.shared import TrainModelConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig, SearchModelConfig, SearchOptimConfig, SelectionConfig
from darts_hpc.run.reader import Progress

DAY = 86_400
CFG = CampaignConfig(
    search=CampaignSearchConfig(order="both", search_seeds=(0, 1)),
    train=CampaignTrainConfig(final_seeds=(0,), baselines=("DARTS_V2",), baseline_seeds=(0,), select_epochs=60),
)
PRESETS: dict[str, Any] = {
    "search.yaml": SearchConfig(),
    "train.yaml": TrainConfig(model=TrainModelConfig(auxiliary=True)),
}


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return make_plan(CFG, Path("/campaigns/one"), {})


def test_published_runs_are_estimated_at_what_they_took(jobs):
    seconds, words = estimate_seconds(jobs, PRESETS, [])
    assert seconds["search-first_order-seed0"] == pytest.approx(0.4 * DAY)
    assert seconds["search-unrolled-seed0"] == pytest.approx(1.0 * DAY, rel=0.1)  # the paper's table 1
    assert seconds["final-DARTS_V2-seed0"] == pytest.approx(1.5 * DAY)
    assert "GPU of 2018" in words


def test_a_short_training_on_part_of_the_images_costs_its_share(jobs):
    seconds, _ = estimate_seconds(jobs, PRESETS, [])
    short, whole = seconds["select-first_order-seed0"], seconds["final-best_of_first_order-seed0"]
    kept = 1 - CFG.train.held_out
    assert short is not None and whole is not None
    assert short / whole == pytest.approx(60 / 600 * (3 * kept + (1 - kept)) / 3.2)
    preset: TrainConfig = PRESETS["train.yaml"]
    seldom = replace(preset, run=replace(preset.run, eval_freq=7))
    fewer = estimate_seconds(jobs, {**PRESETS, "train.yaml": seldom}, [])[0]["final-best_of_first_order-seed0"]
    assert fewer is not None and fewer / whole == pytest.approx((600 * 3 + 86 * 0.2) / (600 * 3.2))


def test_once_a_search_is_done_the_others_are_estimated_at_its_pace(jobs):
    progress = Progress(finished=True, epoch=50, epochs=50, accuracy=88.0, seconds=1000.0, steps=0)
    states = [JobState(job=jobs[0], state="finished", record=Record(), progress=progress)]
    seconds, words = estimate_seconds(jobs, PRESETS, states)
    assert jobs[0].name == "search-first_order-seed0" and words == "by the 1 finished jobs"
    assert seconds["search-first_order-seed1"] == pytest.approx(1000)
    assert seconds["search-unrolled-seed1"] == pytest.approx(2500, rel=0.1)
    assert seconds["final-DARTS_V2-seed0"] == pytest.approx(1.5 * DAY)  # no training is done yet
    last = estimate_text(Path("/campaigns/one"), PRESETS, states, None, 1).splitlines()[-1]
    assert last == "# 1 jobs: about 0.28 CPU job hours, by the 1 finished jobs"


def search_seconds(jobs: list[Job], **data: Any) -> float | None:
    """What a search on other images is estimated at."""
    cfg = replace(SearchConfig(), data=replace(SearchConfig().data, **data))
    return estimate_seconds(jobs, {**PRESETS, "search.yaml": cfg}, [])[0]["search-first_order-seed0"]


@pytest.mark.parametrize("name", ["cifar100", "svhn", "digits"])
def test_a_data_set_costs_what_its_images_and_their_size_do(jobs, name: str):
    published, seconds = search_seconds(jobs, dataset="cifar10"), search_seconds(jobs, dataset=name)
    num_train, side = {"cifar100": (50_000, 32), "svhn": (73_257, 32), "digits": (1_437, 16)}[name]
    assert published is not None and seconds is not None
    assert seconds / published == pytest.approx(num_train / 50_000 * (side / 32) ** 2, rel=0.01)


def test_the_size_that_is_asked_for_counts(jobs):
    default, large = search_seconds(jobs, dataset="digits"), search_seconds(jobs, dataset="digits", image_size=32)
    assert default is not None and large == pytest.approx(4 * default, rel=0.01)


def test_the_images_of_a_folder_are_counted_and_one_that_is_not_there_has_no_estimate(jobs, tmp_path: Path):
    assert search_seconds(jobs, dataset="folder", image_size=16, data=tmp_path / "missing") is None
    for part, number in (("train", 6), ("val", 2)):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(number):
                (tmp_path / part / name / f"{i}.png").touch()
    counted = search_seconds(jobs, dataset="folder", image_size=16, data=tmp_path)
    digits = search_seconds(jobs, dataset="digits")
    assert counted is not None and digits is not None
    assert counted / digits == pytest.approx(12 / 1_437, rel=0.01)


def test_a_variant_costs_what_its_space_its_gradient_and_its_epochs_do():
    small = SearchModelConfig(layers=3)
    variants = {
        **{space: SearchConfig(model=replace(small, space=space)) for space in ("darts", "s2", "s4")},
        "partial": SearchConfig(model=replace(small, partial_channels=4)),
        "pt": SearchConfig(model=small, selection=SelectionConfig(selection="perturbation")),
        "adversary": SearchConfig(model=small, optim=SearchOptimConfig(perturb="adversarial")),
    }
    own = [
        Job(name=name, stage="search", cell=name, seed=0, entry="train_search", preset=name, flags=())
        for name in variants
    ]
    seconds, _ = estimate_seconds(own, variants, [])
    found = {name: value or 0.0 for name, value in seconds.items()}
    assert found["pt"] / found["darts"] == pytest.approx((50 + 161) / 50)
    assert found["s4"] < found["s2"] < found["darts"] and found["partial"] < 0.5 * found["darts"]
    assert found["adversary"] == pytest.approx(found["darts"] * (3 * 9 + 1) / (3 * 2 + 1))
    progress = Progress(finished=True, epoch=50, epochs=50, accuracy=88.0, seconds=1000.0, steps=0)
    states = [JobState(job=own[1], state="finished", record=Record(), progress=progress)]
    measured, _ = estimate_seconds(own, variants, states)
    assert measured["s2"] == pytest.approx(1000) and measured["darts"] == pytest.approx(
        1000 * found["darts"] / found["s2"]
    )
