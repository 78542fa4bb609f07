"""ImageNet training and evaluation on several processes: equal, exact, resumable, and clear about mistakes."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ranks import on_ranks
from test_resume import tensors

from darts_hpc.commands import evaluate, train_imagenet
from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.evaluate import EvaluateImageNetConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.imagenet.read.samples import Samples
from darts_hpc.data.imagenet.read.synthetic import SyntheticLoader
from darts_hpc.evaluate import is_imagenet
from darts_hpc.locks import lock_run_folder
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.space.genotypes import load_genotype

DATA = ["--loader", "synthetic", "--synthetic_images", "175", "--synthetic_classes", "6"]
DATA += ["--image_size", "32", "--device", "cpu"]
NETWORK = ["--init_channels", "4", "--layers", "3", "--auxiliary"]
RUN = [
    *DATA,
    *NETWORK,
    *["--epochs", "2", "--report_freq", "1", "--no-tensorboard", "--memory_check", "off", "--valid_batch_size", "2"],
]


def train(*flags: object, kill_at: int = 0) -> None:
    """Train in this process, a fork: it is killed when it asks for training batch number kill_at."""
    torch.set_num_threads(1)
    asked = [0]

    def counting(make: Any) -> Any:
        def make_batch(self, epoch, ids, *pixels):
            asked[0] += self.order.shuffle
            if asked[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return make(self, epoch, ids, *pixels)

        return make_batch

    if kill_at:  # and else nothing is left behind in this process
        SyntheticLoader._batch, Samples.finish = counting(SyntheticLoader._batch), counting(Samples.finish)
    train_imagenet.main(parse_config(ImageNetConfig, [*RUN, *map(str, flags)]))


def make_photos(root: Path) -> Path:
    """175 images to train on and 20 others, in 6 classes."""
    colours = np.random.default_rng(0).integers(0, 256, (195, 5, 5, 3), dtype=np.uint8)
    for number, pixels in enumerate(colours):
        path = root / ("train" if number < 175 else "val") / f"class{number % 6}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((40, 50)).save(path)
    return root


def outcome(folder: Path) -> dict[str, str]:
    """Digests of weights, momentum, every rank's statistics, and what was measured."""
    newest = CheckpointStore(folder / "checkpoints").load_newest()
    assert newest is not None and (folder / "result.json").exists()
    payloads = {name.removesuffix(".pt"): newest.load(name.removesuffix(".pt")) for name in newest.files}
    state = payloads.pop("state")["objects"]
    found = dict(tensors({**state, **payloads}))
    assert any("momentum_buffer" in name for name in found) and any("running_var" in name for name in found)
    digests = {name: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for name, t in found.items()}
    return digests | {"metrics": (folder / "metrics.jsonl").read_text()}


@pytest.mark.parametrize(("processes", "loader"), [(2, "dali"), (3, "synthetic")])
def test_killed_within_epochs_and_resumed_twice_equals_an_undisturbed_run_bit_for_bit(processes, loader, tmp_path):
    """Of three ranks' gradients the order of addition counts."""
    # 7 steps per epoch, of 2 batches per rank
    flags = ["--batch_size", 24 // processes // 2, "--drop_path_prob", "0.4", "--checkpoint_freq", 2]
    flags += ["--global_batch_size", 24, "--replica_check", 3]
    if loader == "dali":
        pytest.importorskip("nvidia.dali")
        flags += ["--loader", "dali", "--data", make_photos(tmp_path / "photos"), "--num_threads", 1, "--resize", 36]
    on_ranks(processes, train, *flags, "--save", f"{tmp_path}/whole")
    for kill_at in (9, 12):
        again = [*flags, "--save", f"{tmp_path}/killed", "--resume", "auto"]
        on_ranks(processes, lambda at=kill_at, again=again: train(*again, kill_at=at), status=-signal.SIGKILL)
    on_ranks(processes, train, *flags, "--save", f"{tmp_path}/killed", "--resume", "auto")
    assert "going on in epoch 2" in (tmp_path / "killed" / "log.rank0.txt").read_text()
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one process, two epochs of 7 steps of 24 images."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    on_ranks(1, train, "--batch_size", 24, "--save", folder)
    return folder


def test_what_a_run_records_is_what_a_user_wants_to_see(trained):
    steps = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [s["learning_rate"] for s in steps if s["event"] == "epoch"] == [0.1, 0.097]
    assert {"train/loss", "train/accuracy", "train/accuracy_top5", "grad_norm/weights", "skipped_steps"} <= set(
        steps[0]
    )
    records = [json.loads(line) for line in (trained / "performance.jsonl").read_text().splitlines()]
    speeds = [record for record in records if record["event"] == "performance"]
    assert len(speeds) == 14 and [record["epoch"] for record in records if record["event"] == "epoch"] == [0, 1]
    for speed in speeds:
        assert speed["performance/images_per_second"] == speed["performance/images_per_second_per_process"] > 0
        assert 0 < speed["performance/data_wait_share"] < 1 and speed["performance/memory_bytes"] > 0
    assert "images/s" in (trained / "log.rank0.txt").read_text()


def evaluated(*flags: object) -> dict:
    """Return the numbers that evaluate.report prints, unrounded."""
    torch.set_num_threads(1)
    heard: list = []
    compute = evaluate.evaluate
    evaluate.evaluate = lambda *args, **kwargs: heard.append(compute(*args, **kwargs)) or heard[-1]
    sys.argv = ["evaluate", *map(str, flags)]
    evaluate.main_imagenet(parse_config(EvaluateImageNetConfig))
    return {"count": heard[-1].totals[3].item(), "totals": heard[-1].totals.tolist()}


def test_evaluation_counts_every_image_once_on_any_number_of_processes(trained):
    """7 images, 2 per rank and step: of three ranks one has a single image in the last step, and two have none."""
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    for processes in (1, 2, 3):
        ranks = on_ranks(processes, evaluated, "--model_path", trained, "--batch_size", 2, "--device", "cpu")
        totals = torch.tensor([rank["totals"] for rank in ranks], dtype=torch.float64).sum(0)
        assert totals[3] == 7 and len({rank["count"] for rank in ranks}) == (1 if processes == 1 else 2)
        assert (totals[1:3] * 100 / 7).tolist() == [last["valid/accuracy"], last["valid/accuracy_top5"]]
        assert (totals[0] / 7).item() == pytest.approx(last["valid/loss"], rel=1e-6)


def test_a_checkpoint_of_the_originals_multi_gpu_training_is_evaluated(trained, tmp_path, capsys, monkeypatch):
    weights = torch.load(trained / "weights.pt", weights_only=True)
    old = {f"module.{name}": tensor for name, tensor in weights.items() if "num_batches_tracked" not in name}
    best = torch.tensor(71.5)
    torch.save(
        {"epoch": 250, "state_dict": old, "best_acc_top1": best, "optimizer": {"state": {}}}, tmp_path / "old.pt"
    )
    for argv in (
        ["--dataset", "imagenet", "--model_path", tmp_path / "old.pt", *DATA, *NETWORK],
        ["--dataset=imagenet", "--model_path", tmp_path / "old.pt", *DATA, *NETWORK[:-1]],  # without the auxiliary head
        ["--model_path", trained],
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, argv)])
        assert is_imagenet(sys.argv[1:])
        run_entry(evaluate.main_imagenet, EvaluateImageNetConfig)
    answers = [line for line in capsys.readouterr().out.splitlines() if "accuracy" in line]
    assert len(answers) == 3 and len(set(answers)) == 1
    assert answers[0].startswith("validation accuracy ") and "on 7 made-up images (top 5 " in answers[0]


def test_a_run_on_made_up_images_is_tested_on_real_ones_and_those_it_could_read_are_counted(trained, tmp_path, capfd):
    pytest.importorskip("nvidia.dali")
    photos = make_photos(tmp_path)
    flags = ["--model_path", trained, "--data", photos, "--loader", "dali", "--max_bad_images", 20]
    flags += ["--image_size", 32, "--resize", 36, "--num_threads", 1]

    def run() -> None:  # in a process of its own: DALI's threads are not to be forked by the tests after this
        sys.argv = ["evaluate", *map(str, flags)]
        torch.set_num_threads(1)
        run_entry(evaluate.main_imagenet, EvaluateImageNetConfig)

    for num_images in (20, 19):
        on_ranks(1, run)
        assert f" % on {num_images} images of ImageNet (top 5 " in capfd.readouterr().out
        victim = photos / "val" / "class1" / "175.jpg"
        victim.write_bytes(victim.read_bytes()[:-1] + b"?")  # as long as before: found when it is read
    for victim in (photos / "val").rglob("*.jpg"):
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    on_ranks(1, run, status=2)
    assert "error: each of the 20 images of ImageNet is damaged" in capfd.readouterr().err


def test_flags_of_other_data_sets_go_to_the_other_test(tmp_path):
    assert not is_imagenet(["--dataset", "digits", "--model_path", str(tmp_path)])
    (tmp_path / "config.yaml").write_text("# python -m darts_hpc.train\ndataset: digits\n")
    assert not is_imagenet(["--model_path", str(tmp_path)])
    (tmp_path / "preset.yaml").write_text("dataset: imagenet\n")
    assert is_imagenet(["--config", str(tmp_path / "preset.yaml")])


def test_a_run_goes_on_with_other_processes_if_they_make_the_same_global_batch(tmp_path):
    flags = ["--checkpoint_freq", 3, "--save", f"{tmp_path}/run"]
    on_ranks(2, lambda: train("--batch_size", 12, *flags, kill_at=5), status=-signal.SIGKILL)
    on_ranks(3, train, "--batch_size", 8, *flags, "--resume", "auto")
    log = (tmp_path / "run" / "log.rank0.txt").read_text()
    assert "world_size: 2 in the checkpoint, 3 now" in log and "after step 3" in log
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 8), 7, *range(8, 15), 14]


def refused(capfd, *flags: object, processes: int = 1) -> str:
    """Return the one line that a user reads when training is refused, on any number of processes."""

    def run() -> None:
        sys.argv = ["train_imagenet", *RUN, *map(str, flags)]
        torch.set_num_threads(1)
        run_entry(train_imagenet.main, ImageNetConfig)

    capfd.readouterr()
    on_ranks(processes, run, status=2)
    said = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(said) == 1, said
    return said[0]


@pytest.mark.parametrize("processes", [1, 2])
def test_mistakes_are_refused_in_one_line_by_all_ranks(processes, capfd, tmp_path):
    save = ["--save", f"{tmp_path}/run"]
    assert "--precision fp16 needs a GPU" in refused(capfd, *save, "--precision", "fp16", processes=processes)
    assert "--optimizer_impl apex needs CUDA" in refused(capfd, *save, "--optimizer_impl", "apex", processes=processes)
    said = refused(capfd, *save, "--batch_size", 8, "--global_batch_size", 12 * processes, processes=processes)
    assert said.endswith(f"--batch_size 8 times {processes} processes; take --batch_size 6")
    said = refused(capfd, *save, "--batch_size", 4, "--global_batch_size", 400, processes=processes)
    assert "--global_batch_size 400 is more than the 175 images of an epoch" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--save", "{}/file/run"], "can't write to the run folder"),
        (["--save", "{}/taken/"], "holds a run already"),
        (["--resume", "{}/nowhere"], "no checkpoint there"),
        (["--save", "{}/held/"], "is in use by process"),
    ],
)
def test_a_run_folder_that_will_not_do_is_refused_before_a_single_image_is_read(flags, said, capfd, tmp_path):
    photos = make_photos(tmp_path / "photos")
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.yaml").touch()
    flags = [flag.format(tmp_path) for flag in flags]
    with lock_run_folder(tmp_path / "held"):
        assert said in refused(capfd, *flags, "--loader", "torchvision", "--data", photos)
    assert not (photos / "manifest.npz").exists()


@pytest.mark.parametrize("checkpoint_freq", [0, 1])
def test_a_training_that_diverged_ends_and_leaves_the_last_good_checkpoint(checkpoint_freq, capfd, tmp_path):
    flags = ["--learning_rate", "1e30", "--grad_clip", "1e30", "--report_freq", 100, "--batch_size", 24]
    said = refused(capfd, *flags, "--checkpoint_freq", checkpoint_freq, "--save", f"{tmp_path}/run")
    assert "the training diverged" in said and not (tmp_path / "run" / "result.json").exists()
    newest = CheckpointStore(tmp_path / "run" / "checkpoints").load_newest()
    assert (newest is not None) == bool(checkpoint_freq)
    if newest is not None:
        assert newest.load("state")["objects"]["precision"]["skipped"] == 0


def test_more_bad_images_may_be_allowed_when_a_run_goes_on(tmp_path):
    save = ["--save", f"{tmp_path}/run/", "--batch_size", 24]
    on_ranks(1, train, *save, "--epochs", 1, "--max_bad_images", 2)
    (tmp_path / "run" / "result.json").unlink()
    on_ranks(1, train, *save, "--epochs", 1, "--max_bad_images", 3, "--resume", "auto")
    assert (tmp_path / "run" / "result.json").exists()


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_difference(trained, capfd):
    again = ["--save", f"{trained}/", "--resume", "auto"]
    before = sorted(path.name for path in trained.rglob("*"))
    assert "global_batch_size: 24 in the checkpoint, 48 now" in refused(
        capfd, *again, "--batch_size", 24, processes=2
    )  # fmt: skip
    assert "layers: 3 in the checkpoint, 5 now" in refused(capfd, *again, "--batch_size", 24, "--layers", 5)
    assert "lr_schedule: step in the checkpoint" in refused(
        capfd, *again, "--batch_size", 24, "--lr_schedule", "cosine"
    )  # fmt: skip
    assert sorted(path.name for path in trained.rglob("*") if "log." not in path.name) == [
        name for name in before if "log." not in name
    ]


def test_weights_for_other_classes_are_refused(trained, tmp_path, capsys, monkeypatch):
    other = DerivedNetwork("imagenet", 4, 9, 3, True, load_genotype("DARTS"))
    torch.save(other.state_dict(), tmp_path / "other.pt")
    flags = ["--dataset", "imagenet", "--model_path", tmp_path / "other.pt", *DATA, *NETWORK]
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, flags)])
    with pytest.raises(SystemExit) as stop:
        run_entry(evaluate.main_imagenet, EvaluateImageNetConfig)
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[:-1] == ["the auxiliary head of these weights is left out: a test does not use it"]
    assert said[-1].startswith("error: ") and "number of classes" in said[-1]
