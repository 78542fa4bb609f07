"""Run folders: their names, and what they say."""

import logging
import time
from pathlib import Path

import pytest
from full_disk import files_up_to

from darts_hpc.locks import lock_run_folder
from darts_hpc.run.folder import (
    choose_run_folder,
    environment,
    has_checkpoint,
    logging_to,
)


def with_checkpoint(folder: Path) -> Path:
    (folder / "checkpoints" / "step-00000005").mkdir(parents=True)
    (folder / "config.yaml").touch()
    return folder


def choose(tmp_path, save="EXP", resume="none", job="77", restarted_since=None):
    return choose_run_folder("train", save, resume, job, runs=tmp_path, restarted_since=restarted_since)


def test_a_name_gets_entry_time_and_job(tmp_path):
    folder = choose(tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.startswith("train-EXP-20") and folder.name.endswith("-77")
    assert choose(tmp_path, job="78") != folder


def test_a_restarted_job_goes_on_with_its_own_run_unasked(tmp_path):
    own = tmp_path / "train-EXP-20261124-101500-77"
    for folder in (own, tmp_path / "train-EXP-20261124-101501-78", tmp_path / "train-OTHER-20261124-101502-77"):
        with_checkpoint(folder)
    assert choose(tmp_path, restarted_since=0.0) == own
    assert choose(tmp_path) != own
    assert choose(tmp_path, restarted_since=0.0, job="79").name.endswith("-79")  # it did not get so far as a folder
    assert choose(tmp_path, save=f"{own}/", restarted_since=0.0) == own


def test_a_restarted_job_leaves_the_run_of_an_older_launch_with_its_name_alone(tmp_path):
    own = with_checkpoint(tmp_path / "train-EXP-20261124-101500-77")
    later = time.time() + 60
    assert choose(tmp_path, restarted_since=later) != own
    with pytest.raises(ValueError, match="holds a run already"):
        choose(tmp_path, save=f"{own}/", restarted_since=later)


def test_a_name_with_a_separator_is_the_folder(tmp_path):
    assert choose(tmp_path, save=f"{tmp_path}/mine") == tmp_path / "mine"


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path):
    folder = with_checkpoint(tmp_path / "mine")
    with pytest.raises(ValueError, match="--resume auto"):
        choose(tmp_path, save=f"{folder}/")
    (folder / "config.yaml").unlink()
    with pytest.raises(ValueError, match="--resume auto"):
        choose(tmp_path, save=f"{folder}/")
    assert choose(tmp_path, save=f"{folder}/", resume="auto") == folder


def test_auto_takes_the_newest_run_of_the_name_that_has_a_checkpoint_and_is_free(tmp_path):
    assert choose(tmp_path, resume="auto").name.startswith("train-EXP-20")  # none yet: a new one
    older = with_checkpoint(tmp_path / "train-EXP-20260101-000000-1")
    (tmp_path / "train-EXP-20260103-000000-1").mkdir()
    assert choose(tmp_path, resume="auto") == older
    newer = with_checkpoint(tmp_path / "train-EXP-20260102-000000-1")
    assert choose(tmp_path, resume="auto") == newer
    with lock_run_folder(newer):
        assert choose(tmp_path, resume="auto") == older


def test_another_experiment_whose_name_starts_alike_is_not_taken(tmp_path):
    with_checkpoint(tmp_path / "train-EXP-big-20260102-000000-1")
    assert choose(tmp_path, resume="auto").name.endswith("-77")


def test_resuming_a_folder_needs_a_checkpoint_there(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint there"):
        choose(tmp_path, resume=str(tmp_path))
    folder = with_checkpoint(tmp_path / "a")
    assert choose(tmp_path, resume=str(folder)) == folder and has_checkpoint(folder)


def test_the_environment_names_what_numbers_depend_on():
    facts = environment()
    assert {"python", "torch", "numpy", "cpus", "threads", "gpus", "host"} <= set(facts)


def test_the_log_has_a_file_for_each_rank_and_only_rank_0_speaks(tmp_path, capsys):
    for rank in (0, 1):
        with logging_to(tmp_path, rank):
            logging.getLogger("darts_hpc.test").info("rank %d here", rank)
    logging.getLogger("darts_hpc.test").warning("after the run")
    for rank in (0, 1):
        assert (tmp_path / f"log.rank{rank}.txt").read_text().endswith(f"INFO rank {rank} here\n")
    said = capsys.readouterr().err
    assert "rank 0 here" in said and "rank 1 here" not in said


def test_a_full_disk_costs_lines_of_the_log_and_no_traceback(tmp_path, capsys):
    with logging_to(tmp_path, 1), files_up_to(0):
        logging.getLogger("darts_hpc.test").info("no room for this")
    assert "Traceback" not in capsys.readouterr().err
