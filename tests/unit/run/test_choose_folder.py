"""Which folder a run gets: a new one, that of its launch before a restart, or the one that --resume selects."""

import os
import time
from pathlib import Path

import pytest

from darts_hpc.locks import lock_run_folder
from darts_hpc.run.choose_folder import FolderRequest, choose_run_folder, has_checkpoint, write_launch
from darts_hpc.run.fingerprint import Fingerprint

RUN = {"layers": 8, "seed": 2, "world_size": 1}


def launch(process: str, launcher: str = "", earlier: bool = False, job: str = "77", **run: object) -> FolderRequest:
    """A process of a launch; `earlier` where the launch was restarted."""
    names = [launcher or process]
    return FolderRequest(
        fingerprint=Fingerprint({**RUN, **run}),
        process=process,
        launchers=names,
        earlier=names if earlier else [],
        job=job,
    )


def choose(runs: Path, request: FolderRequest, save: str = "EXP", resume: str = "none") -> Path:
    return choose_run_folder("train", save, resume, request, runs)[0]


def begin(runs: Path, request: FolderRequest, save: str = "EXP", resume: str = "none", step: int = 5) -> Path:
    """Do what a run does with its folder up to a checkpoint."""
    folder = choose(runs, request, save, resume)
    folder.mkdir(exist_ok=True)
    write_launch(folder, request)
    (folder / "config.yaml").touch()
    (folder / f"checkpoints/step-{step:08d}").mkdir(parents=True, exist_ok=True)
    return folder


def finish(folder: Path) -> Path:
    (folder / "result.json").touch()
    return folder


def test_a_name_gets_entry_time_and_job_and_makes_the_folder(tmp_path):
    folder = choose(tmp_path, launch("a"))
    assert folder.parent == tmp_path and folder.is_dir()
    assert folder.name.startswith("train-EXP-20") and folder.name.endswith("-77")


def test_launches_of_the_same_second_and_job_never_share_a_folder(tmp_path):
    folders = [begin(tmp_path, launch(f"p{index}")) for index in range(5)]
    assert len(set(folders)) == 5
    assert choose(tmp_path, launch("q"), resume="auto") == folders[-1]  # a number at its end hides none


def test_a_restart_goes_on_with_its_own_run_and_with_no_other_of_its_name(tmp_path):
    ours, theirs = begin(tmp_path, launch("a1", "A")), begin(tmp_path, launch("b1", "B"))
    assert choose(tmp_path, launch("a2", "A", earlier=True)) == ours
    finish(theirs)
    assert choose(tmp_path, launch("a2", "A", earlier=True)) == ours
    assert choose(tmp_path, launch("a2", "A", earlier=True), resume="auto") == ours
    with lock_run_folder(ours):  # the old process is not quite gone: better refused than begun again
        assert choose(tmp_path, launch("a2", "A", earlier=True)) == ours


def test_a_restart_that_had_no_run_yet_begins_one_and_so_does_whoever_was_not_restarted(tmp_path):
    others = {begin(tmp_path, launch("b1", "B")), finish(begin(tmp_path, launch("a1", "A", layers=9)))}
    assert choose(tmp_path, launch("a2", "A", earlier=True)) not in others
    ours = begin(tmp_path, launch("a1", "A"))
    assert choose(tmp_path, launch("a3", "A")) != ours


@pytest.mark.parametrize("again", [2, 0, 1])
def test_a_requeued_job_of_several_seeds_finds_the_run_of_each_by_what_it_computes(again, tmp_path):
    folders = [finish(begin(tmp_path, launch(f"p{seed}", "job 7", seed=seed))) for seed in range(2)]
    folders.append(begin(tmp_path, launch("p2", "job 7", seed=2)))
    assert choose(tmp_path, launch("later", "job 7", earlier=True, seed=again)) == folders[again]
    assert choose(tmp_path, launch("later", "job 7", earlier=True, seed=3)) not in folders


def test_runs_of_one_process_are_runs_of_their_own_after_a_restart_too(tmp_path):
    first = begin(tmp_path, launch("p1", "A"))
    assert begin(tmp_path, launch("p2", "A", earlier=True)) == first
    assert begin(tmp_path, launch("p2", "A", earlier=True)) != first


def test_a_restart_prefers_what_is_not_finished_and_not_in_use(tmp_path):
    done, halfway, running = (begin(tmp_path, launch(f"p{i}", "job 7")) for i in range(3))
    finish(done)
    with lock_run_folder(running):
        assert choose(tmp_path, launch("later", "job 7", earlier=True)) == halfway


def test_a_run_that_another_launch_went_on_with_is_that_ones(tmp_path):
    folder = begin(tmp_path, launch("a1", "A"))
    assert begin(tmp_path, launch("b1", "B"), resume="auto") == folder
    assert choose(tmp_path, launch("b2", "B", earlier=True)) == folder
    assert choose(tmp_path, launch("a2", "A", earlier=True)) != folder


def test_file_times_play_no_part(tmp_path):
    ours, theirs = begin(tmp_path, launch("a1", "A")), begin(tmp_path, launch("b1", "B"))
    now = time.time()
    for folder, shift in ((ours, -300), (theirs, 300)):  # a file server's clock
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (now + shift, now + shift))
    assert choose(tmp_path, launch("a2", "A", earlier=True)) == ours
    for path in (ours, *ours.rglob("*")):
        os.utime(path, (now + 900, now + 900))
    assert choose(tmp_path, launch("c"), resume="auto") == theirs


@pytest.fixture
def time_zone(monkeypatch):
    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def test_auto_takes_the_newest_though_the_time_zone_changed_between_two_runs(tmp_path, time_zone):
    time_zone("UTC-9")  # east: its clocks are ahead
    older = begin(tmp_path, launch("a"))
    time_zone("UTC+8")
    newer = begin(tmp_path, launch("b"))
    assert older.name > newer.name
    assert choose(tmp_path, launch("c"), resume="auto") == newer


def test_auto_takes_the_newest_run_of_the_name_that_has_a_checkpoint_and_is_free(tmp_path):
    assert not has_checkpoint(choose(tmp_path, launch("a"), resume="auto"))  # none yet: a new one
    older = begin(tmp_path, launch("b"))
    write_launch(choose(tmp_path, launch("c")), launch("c"))
    assert choose(tmp_path, launch("d"), resume="auto") == older
    newer = begin(tmp_path, launch("e"))
    assert choose(tmp_path, launch("f"), resume="auto") == newer
    with lock_run_folder(newer):
        assert choose(tmp_path, launch("f"), resume="auto") == older


def test_auto_takes_what_computes_the_same_and_leaves_other_seeds_alone(tmp_path):
    same, wider = begin(tmp_path, launch("a")), begin(tmp_path, launch("b", layers=9))
    other = begin(tmp_path, launch("c", seed=3))
    assert choose(tmp_path, launch("d"), resume="auto") == same
    assert choose(tmp_path, launch("d", layers=12), resume="auto") == wider  # which its checkpoint then refuses
    assert choose(tmp_path, launch("d", seed=3), resume="auto") == other
    assert choose(tmp_path, launch("d", seed=4), resume="auto") not in (same, wider, other)


def test_a_folder_without_a_launch_is_ordered_by_the_time_in_its_name(tmp_path):
    for name in ("train-EXP-20260101-000000-1", "train-EXP-20260102-000000-1"):
        (tmp_path / name / "checkpoints" / "step-00000005").mkdir(parents=True)
    assert choose(tmp_path, launch("a"), resume="auto").name == "train-EXP-20260102-000000-1"
    newer = begin(tmp_path, launch("b"))
    assert choose(tmp_path, launch("a"), resume="auto") == newer


def test_another_experiment_whose_name_starts_alike_is_not_taken(tmp_path):
    folder = begin(tmp_path, launch("a", "A"), save="EXP-big")
    assert choose(tmp_path, launch("b"), resume="auto") != folder
    assert choose(tmp_path, launch("a2", "A", earlier=True)) != folder


def test_a_name_with_a_separator_is_the_folder_and_one_that_holds_a_run_is_refused(tmp_path):
    save = f"{tmp_path}/mine/"
    folder = begin(tmp_path, launch("a1", "A"), save=save)
    assert folder == tmp_path / "mine"
    for request in (launch("b1", "B"), launch("b1", "B", earlier=True), launch("a2", "A", earlier=True, layers=9)):
        with pytest.raises(ValueError, match="--resume auto"):
            choose(tmp_path, request, save=save)
    assert choose_run_folder("train", save, "none", launch("a2", "A", earlier=True)) == (folder, True)
    assert choose_run_folder("train", save, "auto", launch("b1", "B")) == (folder, True)
    (folder / "config.yaml").unlink()
    with pytest.raises(ValueError, match="--resume auto"):
        choose(tmp_path, launch("b1", "B"), save=save)


def test_resuming_a_folder_needs_a_checkpoint_there(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint there"):
        choose(tmp_path, launch("a"), resume=str(tmp_path))
    folder = begin(tmp_path, launch("a"))
    assert choose(tmp_path, launch("b"), resume=str(folder)) == folder


def test_a_folder_that_can_not_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can't write to the run folder"):
        choose(tmp_path / "file", launch("a"))


LAUNCHES = [
    "null",
    "[]",
    "{}",
    '{"created": 3, "launchers": [], "process": "a"}',
    '{"created": "soon", "launchers": [], "process": "a"}',
    '{"created": "2024-01-01", "launchers": 7, "process": "a"}',
    '{"created": "2024-01-01", "launchers": [[]], "process": "a"}',
    '{"created": "2024-01-01", "launchers": [], "process": "a", "fingerprint": [1]}',
    "[" * 100_000,
]


@pytest.mark.parametrize("content", LAUNCHES)
@pytest.mark.parametrize("manifest", ["{}", '{"fingerprint": 3}', "null", "[" * 100_000])
def test_a_launch_of_another_layout_is_none(tmp_path, content, manifest):
    before = begin(tmp_path, launch("a"))
    (before / "launch.json").write_text(content)
    (before / "checkpoints" / "step-00000005" / "manifest.json").write_text(manifest)
    assert choose(tmp_path, launch("b"), resume="auto") == before
    assert choose(tmp_path, launch("b", "a", earlier=True)) != before


def test_a_folder_whose_name_says_no_time_is_the_oldest(tmp_path):
    before = begin(tmp_path, launch("a"))
    (tmp_path / "train-EXP-99999999-999999-x" / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert choose(tmp_path, launch("b"), resume="auto") == before
