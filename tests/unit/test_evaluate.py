"""What a test takes from the folder of a run, and what from its own command line."""

from pathlib import Path

import pytest

from darts_hpc.commands.evaluate import with_imagenet_network_of_run, with_network_of_run
from darts_hpc.config.cli import given_flags, parse_config
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig

TRAINED = ["--loader", "synthetic", "--batch_size", "24", "--valid_batch_size", "7", "--jitter", "exact"]
TRAINED += ["--data", "there", "--manifest", "there.npz", "--layers", "3"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of an ImageNet training."""
    (tmp_path / "config.yaml").write_text(to_yaml(parse_config(ImageNetConfig, TRAINED), ""))
    return tmp_path


def images_of_a_test(run: Path, *flags: str) -> ImageNetDataConfig:
    argv = ["--model_path", str(run), *flags]
    cfg = with_imagenet_network_of_run(parse_config(EvaluateImageNetConfig, argv), given_flags(argv))
    assert cfg.layers == 3 and cfg.arch == str(run)
    return cfg.data


def test_a_flag_given_with_its_default_value_wins_over_the_run(run):
    data = images_of_a_test(
        run, "--loader", "dali", "--batch_size", "128", "--jitter=twist", "--data", "../data/imagenet/"
    )
    assert (data.loader, data.batch_size, data.jitter) == ("dali", 128, "twist")
    assert data.data == Path("../data/imagenet/")


def test_other_images_come_without_the_manifest_of_the_runs_images(run):
    assert images_of_a_test(run).manifest == Path("there.npz")
    assert images_of_a_test(run, "--data", "here").manifest is None
    assert images_of_a_test(run, "--data", "here", "--manifest", "here.npz").manifest == Path("here.npz")


def test_what_is_not_given_is_the_runs_but_for_the_batches_of_its_validation(run):
    data = images_of_a_test(run)
    assert (data.loader, data.batch_size, data.jitter, data.data) == ("synthetic", 24, "exact", Path("there"))
    assert data.valid_batch_size is None
    assert images_of_a_test(run, "--valid_batch_size", "9").valid_batch_size == 9


def test_a_test_computes_as_the_run_did_unless_flags_say_otherwise(run):
    (run / "config.yaml").write_text(
        to_yaml(parse_config(ImageNetConfig, ["--precision", "bf16", "--no_channels_last"]), "")
    )
    for flags, expected in (
        ([], ("bf16", False)),
        (["--precision", "fp32"], ("fp32", False)),
        (["--channels_last"], ("bf16", True)),
    ):
        argv = ["--model_path", str(run), *flags]
        cfg = with_imagenet_network_of_run(parse_config(EvaluateImageNetConfig, argv), given_flags(argv))
        assert (cfg.compute.precision, cfg.compute.channels_last) == expected


def test_flags_of_small_images_win_over_the_run_too(tmp_path):
    trained = ["--dataset", "digits", "--data", "there", "--image_size", "12", "--layers", "3"]
    (tmp_path / "config.yaml").write_text(to_yaml(parse_config(TrainConfig, trained), ""))
    for flags, expected in (
        ([], ("digits", Path("there"), 12)),
        (["--data", "../data", "--dataset=cifar10"], ("cifar10", Path("../data"), 12)),
    ):
        argv = ["--model_path", str(tmp_path), *flags]
        cfg = with_network_of_run(parse_config(EvaluateConfig, argv), given_flags(argv))
        assert (cfg.dataset, cfg.data, cfg.image_size) == expected and cfg.layers == 3
