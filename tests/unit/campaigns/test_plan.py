"""The plan follows from the configuration alone."""

from pathlib import Path

import pytest

from darts_hpc.campaigns.plan import Job, make_plan
from darts_hpc.config.campaign import CampaignConfig, CampaignSearchConfig, CampaignTrainConfig

FOLDER = Path("/campaigns/one")


def campaign(train: dict | None = None, **search) -> CampaignConfig:
    """A campaign of two searches, one full training and no baseline, but for what a test says."""
    short = {"final_seeds": (5,), "baselines": (), "baseline_seeds": (5,)}
    return CampaignConfig(
        search=CampaignSearchConfig(**{"search_seeds": (0, 1), **search}),
        train=CampaignTrainConfig(**{**short, **(train or {})}),
    )


def named(jobs: list[Job], stage: str) -> list[str]:
    return [job.name for job in jobs if job.stage == stage]


def test_every_job_comes_after_what_it_needs_and_has_a_folder_of_its_own():
    cfg = campaign({"train_all": True, "baselines": ("DARTS_V1",)}, order="both", random_cells=2)
    for best in ({}, {"first_order": "first_order-seed1", "unrolled": "unrolled-seed0", "random": "random-1"}):
        jobs = make_plan(cfg, FOLDER, best)
        names = [job.name for job in jobs]
        assert len(set(names)) == len(names)
        for position, job in enumerate(jobs):
            assert set(job.after) <= set(names[:position])


def test_both_orders_are_searched_with_every_seed():
    jobs = make_plan(campaign(order="both"), FOLDER, {})
    assert named(jobs, "search") == [
        *("search-first_order-seed0", "search-first_order-seed1"),
        *("search-unrolled-seed0", "search-unrolled-seed1"),
    ]
    unrolled = {job.name for job in jobs if "--unrolled" in job.flags}
    assert unrolled == {"search-unrolled-seed0", "search-unrolled-seed1"}


def test_the_ranking_holds_images_out_of_the_training_part_and_full_trainings_hold_out_none():
    jobs = make_plan(campaign({"held_out": 0.3}, random_cells=1), FOLDER, {})
    for job in jobs:
        if job.entry == "train":
            share = job.flags[job.flags.index("--held_out") + 1]
            assert share == ("0.3" if job.stage == "select" else "0")
    assert len({job.seed for job in jobs if job.stage == "select"}) == 1


def test_full_trainings_wait_for_the_whole_ranking_of_their_family_and_then_train_its_best():
    cfg = campaign({"final_seeds": (5, 6)})
    waiting = [job for job in make_plan(cfg, FOLDER, {}) if job.stage == "final"]
    assert all(
        job.is_open and set(job.after) == {f"select-first_order-seed{seed}" for seed in (0, 1)} for job in waiting
    )
    chosen = make_plan(cfg, FOLDER, {"first_order": "first_order-seed1"})
    assert named(chosen, "final") == ["final-first_order-seed1-seed5", "final-first_order-seed1-seed6"]
    command = chosen[-1].command(FOLDER)
    assert command[command.index("--arch") + 1] == "/campaigns/one/runs/search-first_order-seed1"
    assert command[-4:] == ["--save", "/campaigns/one/runs/final-first_order-seed1-seed6/", "--resume", "auto"]


def test_with_train_all_the_best_cells_first_training_is_not_repeated():
    jobs = make_plan(campaign({"train_all": True}), FOLDER, {"first_order": "first_order-seed1"})
    assert sorted(named(jobs, "final")) == ["final-first_order-seed0-seed5", "final-first_order-seed1-seed5"]


COMPARED = {
    "variants": ("plain", "beta in s2: --alpha_regulariser beta"),
    "spaces": ("s2", "s4"),
    "random_cells": 2,
}


def test_variants_are_searched_in_their_spaces_and_every_cell_is_trained_with_every_seed():
    jobs = make_plan(campaign({"final_seeds": (5, 6), "baselines": ("DARTS_V1",)}, **COMPARED), FOLDER, {})
    assert named(jobs, "search") == [
        *("search-s2-plain-seed0", "search-s2-plain-seed1", "search-s2-beta-seed0", "search-s2-beta-seed1"),
        *("search-s4-plain-seed0", "search-s4-plain-seed1"),
    ]
    assert {job.preset for job in jobs if job.stage == "search"} == {
        "search-s2-plain.yaml", "search-s2-beta.yaml", "search-s4-plain.yaml"
    }  # fmt: skip
    cells = [name.removeprefix("search-") for name in named(jobs, "search")]
    cells += [f"{space}-random-{number}" for space in ("s2", "s4") for number in (0, 1)]
    assert set(named(jobs, "select")) == {f"select-{cell}" for cell in cells}
    finals = {f"final-{cell}-seed{seed}" for cell in cells for seed in (5, 6)} | {"final-DARTS_V1-seed5"}
    assert set(named(jobs, "final")) == finals
    archs = {job.cell: job.flags[job.flags.index("--arch") + 1] for job in jobs if job.stage == "final"}
    assert archs["s2-beta-seed1"] == "/campaigns/one/runs/search-s2-beta-seed1"
    assert archs["s4-random-1"] == "/campaigns/one/cells/s4-random-1.json"


def test_a_variant_that_is_added_adds_its_jobs_and_changes_no_other():
    before = make_plan(campaign(**COMPARED), FOLDER, {})
    more = {**COMPARED, "variants": (*COMPARED["variants"], "exact: --unrolled --unrolled_method exact")}
    after = {job.name: job for job in make_plan(campaign(**more), FOLDER, {})}
    assert [after.pop(job.name) for job in before] == before
    assert after and all("exact" in name for name in after)


def test_a_search_is_also_judged_by_its_cell_after_a_share_of_its_epochs():
    jobs = make_plan(campaign({"anytime_shares": (0.25, 0.5)}, **COMPARED), FOLDER, {})
    own = [job for job in jobs if job.stage == "anytime"]
    assert len(own) == 2 * 6 and {job.share for job in own} == {0.25, 0.5}
    job = next(job for job in own if job.name == "anytime-s2-beta-seed1-at0.25")
    ranked = next(job for job in jobs if job.name == "select-s2-beta-seed1")
    assert job.after == ("search-s2-beta-seed1",) and job.flags[2:] == ranked.flags[2:] and job.seed == ranked.seed
    assert job.flags[:2] == ("--arch", "/campaigns/one/cells/s2-beta-seed1-at0.25.json")


def variants(*texts: str, **values) -> dict:
    return {"variants": texts, "spaces": ("s2", "s4"), **values}


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        (CampaignSearchConfig, {"search_seeds": ()}, "--search_seeds is empty"),
        (CampaignSearchConfig, {"search_seeds": (1, 2, 1)}, "--search_seeds names seed 1 twice"),
        (CampaignSearchConfig, {"search_seeds": (-1,)}, "--search_seeds -1"),
        (CampaignTrainConfig, {"final_seeds": (0, 0)}, "--final_seeds names seed 0 twice"),
        (CampaignTrainConfig, {"baselines": ("PDARTS", "PDARTS")}, "--baselines names PDARTS twice"),
        (CampaignTrainConfig, {"held_out": 0.0}, "--held_out 0.0"),
        (CampaignTrainConfig, {"anytime_shares": (0.5, 1.0)}, "--anytime_shares 1.0"),
        (CampaignTrainConfig, {"anytime_shares": (0.5, 0.5)}, "--anytime_shares names 0.5 twice"),
        (CampaignTrainConfig, {"anytime_shares": (0.1234567, 0.1234568)}, "--anytime_shares names 0.123457 twice"),
        (CampaignSearchConfig, variants("a\u03b2"), "a name is of letters a-z"),
        (CampaignSearchConfig, {"spaces": ("s9",)}, "--spaces s9"),
        (CampaignSearchConfig, {"spaces": ("s2", "s2")}, "--spaces names s2 twice"),
        (CampaignSearchConfig, {"variants": ("beta",)}, "--variants without --spaces"),
        (CampaignSearchConfig, variants("beta", order="both"), "--order both with --variants"),
        (CampaignSearchConfig, variants("beta", "beta: --unrolled"), "--variants names beta twice in s2"),
        (CampaignSearchConfig, variants("beta in s2", "beta in s2, s4"), "--variants names beta twice in s2"),
        (CampaignSearchConfig, variants("beta in s3"), "--variants beta in s3: expected one of --spaces s2 s4"),
        (CampaignSearchConfig, variants("../beta"), "--variants '../beta'"),
        (CampaignSearchConfig, variants(": --unrolled"), "--variants ': --unrolled'"),
        (CampaignSearchConfig, variants(""), "--variants ''"),
        (CampaignSearchConfig, variants("random: --unrolled"), "--variants random"),
        (CampaignSearchConfig, variants("beta: --config 'a"), "--variants beta: expected flags"),
        (CampaignSearchConfig, variants("beta: --unrolled --space s2"), "--variants beta: expected no --space"),
        (CampaignSearchConfig, variants("beta: --seed=3"), "--variants beta: expected no --seed=3"),
    ],
)
def test_a_campaign_that_would_prove_nothing_is_refused(section, values, named):
    with pytest.raises(ValueError) as refusal:
        section(**values)
    assert named in str(refusal.value) and "expected" in str(refusal.value)
