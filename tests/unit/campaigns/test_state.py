"""States are read from run folders; the ranking follows from them; what failed does not hold up the rest."""

import json
from pathlib import Path

import pytest

from darts_hpc.campaigns.control import read_states
from darts_hpc.campaigns.executors import sbatch_flags
from darts_hpc.campaigns.plan import make_plan
from darts_hpc.campaigns.state import Attempt, Record, read_record, record_path, write_record
from darts_hpc.campaigns.status import status_text, summary_line, work_left_s
from darts_hpc.config.campaign import CampaignConfig, CampaignSearchConfig, CampaignTrainConfig
from darts_hpc.run.reader import read_progress

CFG = CampaignConfig(
    search=CampaignSearchConfig(search_seeds=(0, 1)),
    train=CampaignTrainConfig(final_seeds=(0,), baselines=(), baseline_seeds=(0,)),
)


def finish(folder: Path, name: str, accuracy: float, seconds: float = 60.0) -> None:
    """Write what a finished run leaves behind, as far as a campaign reads it."""
    run = folder / "runs" / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("# train\nepochs: 4\n")
    result = {"status": "finished", "epochs": 4, "final": {"valid/accuracy": accuracy}, "seconds": seconds}
    (run / "result.json").write_text(json.dumps(result))


def begin(folder: Path, name: str, epochs_done: int) -> None:
    """Write what a run under way has written."""
    run = folder / "runs" / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("# train\nepochs: 4\n")
    record = {"event": "epoch", "step": 9, "test/accuracy": 50.0}
    lines = [json.dumps({**record, "epoch": epoch}) + "\n" for epoch in range(epochs_done)]
    (run / "metrics.jsonl").write_text("".join(lines) + '{"event": "step", "epo')
    (run / "performance.jsonl").write_text(json.dumps({"performance/seconds": 30.0 * epochs_done}) + "\n")


def states(folder: Path) -> dict[str, str]:
    (folder / "jobs").mkdir(exist_ok=True)
    return {each.job.name: each.state for each in read_states(CFG, folder)}


def fail(folder: Path, name: str, times: int) -> None:
    (folder / "jobs").mkdir(exist_ok=True)
    job = next(job for job in make_plan(CFG, folder, {}) if job.name == name)
    write_record(folder, job, Record([Attempt("local", "1", 0.0, end="failed, exit code 1")] * times, failures=times))


def test_a_fresh_campaign_can_only_search(tmp_path):
    assert states(tmp_path) == {
        "search-first_order-seed0": "ready",
        "search-first_order-seed1": "ready",
        "select-first_order-seed0": "waiting",
        "select-first_order-seed1": "waiting",
        "final-best_of_first_order-seed0": "waiting",
    }


def test_the_cell_that_ranks_first_on_held_out_images_is_trained_in_full(tmp_path):
    for seed, accuracy in ((0, 81.0), (1, 93.0)):
        finish(tmp_path, f"search-first_order-seed{seed}", 99.0 - accuracy)  # a search's own accuracy plays no part
        finish(tmp_path, f"select-first_order-seed{seed}", accuracy)
    assert states(tmp_path)["final-first_order-seed1-seed0"] == "ready"


def test_a_job_that_failed_too_often_is_given_up_and_the_ranking_goes_on_without_it(tmp_path):
    finish(tmp_path, "search-first_order-seed1", 50.0)
    finish(tmp_path, "select-first_order-seed1", 80.0)
    fail(tmp_path, "search-first_order-seed0", times=2)
    assert states(tmp_path)["search-first_order-seed0"] == "ready"
    fail(tmp_path, "search-first_order-seed0", times=3)
    now = states(tmp_path)
    assert now["search-first_order-seed0"] == "failed" and now["select-first_order-seed0"] == "blocked"
    assert now["final-first_order-seed1-seed0"] == "ready"


def test_when_every_search_failed_nothing_is_left_to_wait_for(tmp_path):
    fail(tmp_path, "search-first_order-seed0", times=3)
    fail(tmp_path, "search-first_order-seed1", times=3)
    assert set(states(tmp_path).values()) == {"failed", "blocked"}


def test_progress_of_a_run_under_way_survives_a_line_that_is_being_written(tmp_path):
    begin(tmp_path, "final", epochs_done=3)
    progress = read_progress(tmp_path / "runs" / "final")
    assert progress is not None and not progress.finished
    assert (progress.epoch, progress.epochs, progress.accuracy, progress.seconds) == (3, 4, 50.0, 90.0)
    assert progress.seconds_left == 30.0


def test_work_left_counts_what_has_not_begun_at_its_stages_pace(tmp_path):
    finish(tmp_path, "search-first_order-seed0", 50.0, seconds=100.0)
    (tmp_path / "jobs").mkdir()
    found = read_states(CFG, tmp_path)
    searches = [each for each in found if each.job.stage == "search"]
    assert work_left_s(searches) == 100.0 and work_left_s(found) is None


def test_hours_are_those_of_all_gpus_of_a_job_finished_or_under_way(tmp_path):
    (tmp_path / "jobs").mkdir()
    finish(tmp_path, "search-first_order-seed0", 50.0, seconds=3600.0)
    begin(tmp_path, "search-first_order-seed1", epochs_done=1)
    assert "; 1.01 CPU job hours so far" in summary_line(read_states(CFG, tmp_path))
    for name in ("search-first_order-seed0", "search-first_order-seed1"):
        facts = {"device": "cuda:0", "processes": 4}
        (tmp_path / "runs" / name / "environment.json").write_text(json.dumps(facts))
    assert "; 4.03 GPU hours so far" in summary_line(read_states(CFG, tmp_path))


def test_records_are_read_back_and_damage_is_reported_in_one_line(tmp_path):
    (tmp_path / "jobs").mkdir()
    job = make_plan(CFG, tmp_path, {})[0]
    record = Record([Attempt("slurm", "17", 1.0, [], "interrupted after 3 steps"), Attempt("slurm", "18", 2.0)], 1)
    write_record(tmp_path, job, record)
    assert read_record(tmp_path, job) == record and record.running == record.attempts[1]
    record_path(tmp_path, job).write_text("{")
    with pytest.raises(ValueError, match=r"search-first_order-seed0\.json is damaged"):
        read_record(tmp_path, job)


@pytest.mark.parametrize("number", ["-1", "0", "--user=me", "1/../2", "17 18", ""])
def test_a_record_whose_job_has_no_number_is_damaged_as_kill_and_scancel_get_it(tmp_path, number):
    (tmp_path / "jobs").mkdir()
    job = make_plan(CFG, tmp_path, {})[0]
    write_record(tmp_path, job, Record([Attempt("slurm", number, 1.0)]))
    with pytest.raises(ValueError, match=r"is damaged \(.* is no job's number\); remove it"):
        read_record(tmp_path, job)


def test_the_table_shows_the_last_lines_of_what_failed(tmp_path):
    fail(tmp_path, "search-first_order-seed0", times=3)
    (tmp_path / "jobs" / "search-first_order-seed0.log").write_text("one\n\nerror: no such image\n")
    text = status_text(tmp_path, read_states(CFG, tmp_path))
    assert text.endswith("search-first_order-seed0 failed; its log ends:\n    one\n    error: no such image")
    small = status_text(tmp_path, read_states(CFG, tmp_path), height=8)
    assert "... and 4 more jobs" in small and "search-first_order-seed0" in small


def test_a_job_that_diverged_is_failed_though_its_epochs_have_numbers(tmp_path):
    begin(tmp_path, "search-first_order-seed0", epochs_done=2)
    run = tmp_path / "runs" / "search-first_order-seed0"
    lost = {"event": "epoch", "epoch": 2, "step": 9, "train/loss": None, "test/accuracy": None}
    (run / "metrics.jsonl").write_text(json.dumps(lost) + "\n")
    fail(tmp_path, "search-first_order-seed0", times=3)
    (tmp_path / "jobs" / "search-first_order-seed0.log").write_text("error: the loss is not finite in epoch 3\n")
    found = read_states(CFG, tmp_path)
    progress = found[0].progress
    assert found[0].state == "failed" and progress is not None and progress.accuracy is None
    assert status_text(tmp_path, found).endswith("    error: the loss is not finite in epoch 3")


def test_flags_of_sbatch_are_read_in_both_spellings_and_others_refused():
    flags = sbatch_flags("--partition=gpu --mem 32G --exclusive")
    assert flags == {"partition": "gpu", "mem": "32G", "exclusive": True}
    with pytest.raises(ValueError, match="not 'gpu'"):
        sbatch_flags("gpu")
