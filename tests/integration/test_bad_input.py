"""A user's mistakes: one clear line, exit code 2, nothing half-written, nothing lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from run_entries import TINY, entry, entry_killed_at_batch

from darts_hpc.commands import evaluate, select_cell, train, train_search, visualize
from darts_hpc.config.cli import run_entry
from darts_hpc.config.evaluate import EvaluateConfig
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.config.visualize import VisualizeConfig
from darts_hpc.run.checkpoint import CheckpointStore

ENTRIES = {
    "train_search": (train_search.main, SearchConfig),
    "select_cell": (select_cell.main, SelectCellConfig),
    "train": (train.main, TrainConfig),
    "evaluate": (evaluate.main, EvaluateConfig),
    "visualize": (visualize.main, VisualizeConfig),
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Call an entry in an empty folder; return the one line it says when it refuses."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *flags: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
        with pytest.raises(SystemExit) as stop:
            run_entry(*ENTRIES[name])
        assert stop.value.code == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("error: "), said
        return said[0]

    return call


def images(folder: Path, classes=("a", "b"), parts=("train", "test")) -> Path:
    for part in parts:
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (9, 8), (index * 9, 7, 7)).save(folder / part / name / f"{index}.png")
    return folder


SMALL_NETWORK = ["--init_channels", "4", "--layers", "3"]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("train_search", ["--unroled"], "unknown flag --unroled; did you mean --unrolled?"),
        ("train", ["--arch", "DARTS_W2"], "did you mean DARTS_V2?"),
        (
            "train",
            ["--arch", "Genotype(normal=[('conv', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])"],
            "1 edges",
        ),
        ("visualize", ["DRTS"], "did you mean DARTS"),
        ("train", ["--dataset", "cifar01"], "cifar10"),
        ("train_search", ["--init_channels", "15"], "even"),
        ("train_search", ["--layers", "2"], "--layers 2"),
        ("train_search", ["--space", "s4", "--early_stop", "skips"], "try --early_stop eigenvalue"),
        ("train_search", ["--partial_channels", "3"], "try 2"),
        ("select_cell", ["nowhere"], "nowhere is no run folder"),
        ("train_search", ["--train_portion", "1.0"], "--train_portion 1.0"),
        ("train_search", ["--train_portion", "0.001", "--dataset", "digits"], "leaves a side without class"),
        ("train", ["--dataset", "digits", "--batch_size", "1500", *SMALL_NETWORK], "lower --batch_size"),
        ("train", ["--dataset", "folder"], "--image_size"),
        ("train", ["--dataset", "digits", "--device", "cuda:99"], "cuda:99"),
        ("train_search", ["--config", "configs/search/digit.yaml"], "configs/search/digits.yaml"),
        ("evaluate", ["--dataset", "digits"], "EXP/model.pt does not exist"),
        ("train", ["--dataset", "digits", "--resume", "runs/none"], "no checkpoint there"),
        ("train", ["--dataset", "digits", "--save", "/proc/no/run"], "can't write to the run folder"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, flags, message, refused, tmp_path):
    assert message in refused(name, *flags)
    assert not list(tmp_path.iterdir())


def test_missing_data_says_which_files_to_place_where(refused, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", offline)
    said = refused("train_search", "--data", tmp_path / "data")
    assert "cifar-10-python.tar.gz" in said and f"{tmp_path / 'data'}/cifar-10-batches-py/" in said
    assert not (tmp_path / "runs").exists()


def test_damaged_images_are_named(refused, tmp_path):
    root = images(tmp_path / "data")
    broken = root / "train" / "b" / "2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert str(broken) in refused("train", "--dataset", "folder", "--data", root, "--image_size", 8)


def test_a_class_on_one_side_only_is_named(refused, tmp_path):
    root = images(tmp_path / "data")
    shutil.rmtree(root / "test" / "b")
    assert "class 'b'" in refused("train", "--dataset", "folder", "--data", root, "--image_size", 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a checkpoint", "damaged or holds no state dict; give the file"),
        (bytes(2000), "damaged or holds no state dict; give the file"),
        ({"stem.0.weight": torch.zeros(1)}, "has no key"),
        ([1, 2], "holds no state dict"),
    ],
)
def test_weights_that_are_none_or_do_not_fit_are_refused(content, message, refused, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert message in refused("evaluate", "--dataset", "digits", "--model_path", path, "--layers", 3)


@pytest.fixture(scope="module")
def interrupted_run(tmp_path_factory) -> Path:
    """A training run that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    entry_killed_at_batch(9, "train", *TINY, "--arch", "DARTS_V1", "--save", folder)
    assert list(folder.glob("checkpoints/step-*")) and not (folder / "result.json").exists()
    return folder


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_is_refused_with_what_differs(interrupted_run, refused):
    before = {path: path.read_bytes() for path in interrupted_run.rglob("*") if path.is_file() and path.name[0] != "."}
    changed = [*TINY, "--arch", "DARTS_V1", "--learning_rate", "0.1", "--layers", "4"]
    said = refused("train", *changed, "--save", interrupted_run, "--resume", "auto")
    assert "learning_rate: 0.025 in the checkpoint, 0.1 now" in said
    assert "layers: 3 in the checkpoint, 4 now" in said and "batch_size" not in said
    logs = {path for path in before if path.name.startswith("log.")}
    assert all(path.read_bytes() == content for path, content in before.items() if path not in logs)


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_not_overwritten(interrupted_run, refused):
    assert "--resume auto" in refused("train", *TINY, "--arch", "DARTS_V1", "--save", interrupted_run)


@pytest.mark.slow
def test_a_run_folder_in_use_names_the_process_that_has_it(interrupted_run, refused):
    code = "import sys, time; from pathlib import Path; from darts_hpc.locks import lock_run_folder\n"
    code += "with lock_run_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code, interrupted_run], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "locked\n"
        said = refused("train", *TINY, "--arch", "DARTS_V1", "--save", interrupted_run, "--resume", "auto")
        assert f"in use by process {owner.pid}" in said
        owner.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_a_full_disk_while_saving_is_reported_and_the_run_goes_on_from_what_is_good(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    flags = [*TINY, "--arch", "DARTS_V1", "--save", disk / "run"]
    probe = entry("train", *TINY, "--arch", "DARTS_V1", "--save", tmp_path / "probe")
    assert probe.returncode == 0, probe.stderr
    checkpoint = max((tmp_path / "probe" / "checkpoints").glob("step-*"))
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(size * 1.7) // 4096 * 4}k", "darts_hpc_test", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        first = entry("train", *flags)
        assert first.stderr.count("could not save a checkpoint") == 1 and "epoch 2 of 2" in first.stderr
        assert "Traceback" not in first.stderr
        good = CheckpointStore(disk / "run" / "checkpoints").load_newest()
        assert good is not None and good.step == 5
        assert not list((disk / "run" / "checkpoints").glob(".writing-*"))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again = entry("train", *flags, "--resume", "auto")
        assert again.returncode == 0 and "from" in again.stderr
        assert (disk / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "probe" / "metrics.jsonl").read_bytes()
        assert json.loads((disk / "run" / "result.json").read_text())["status"] == "finished"
    finally:
        subprocess.run(["umount", disk], check=False)
