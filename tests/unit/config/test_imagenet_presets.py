"""ImageNet's presets: each asks for the batch and the rates that its name promises, on the machine it names."""

from pathlib import Path

import pytest
import torch

from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.distributed.world import World
from darts_hpc.training.schedule import imagenet_learning_rate, search_learning_rate
from darts_hpc.training.train_network import step_config

FOLDER = Path(__file__).parents[3] / "configs" / "imagenet"
PRESETS = {
    # name: processes, batches accumulated, images per step, rates of epochs 0, 4, 100 and the last
    "darts_paper": (1, 1, 128, [0.1, 0.1 * 0.97**4, 0.1 * 0.97**100, 0.1 * 0.97**249]),
    "darts_paper_8gpu": (8, 1, 128, [0.1, 0.1 * 0.97**4, 0.1 * 0.97**100, 0.1 * 0.97**249]),
    "large_batch": (1, 8, 1024, [0.1, 0.5 * 241 / 245, 0.5 * 145 / 245, 0.1 / 245]),
    "large_batch_8gpu": (8, 1, 1024, [0.1, 0.5 * 241 / 245, 0.5 * 145 / 245, 0.1 / 245]),
    "large_batch_4nodes": (32, 1, 1024, [0.1, 0.5 * 241 / 245, 0.5 * 145 / 245, 0.1 / 245]),
}


def preset(name: str, *flags: str) -> ImageNetConfig:
    return parse_config(ImageNetConfig, ["--config", str(FOLDER / f"{name}.yaml"), *flags])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_the_batches_and_the_rates_of_its_recipe(name):
    processes, accumulate, images, rates = PRESETS[name]
    cfg = preset(name)
    step_cfg = step_config(cfg, World(torch.device("cpu"), size=processes))
    assert step_cfg.accumulate == accumulate and step_cfg.batch_size * accumulate * processes == images
    got = [imagenet_learning_rate(epoch, cfg.run.epochs, cfg.optim) for epoch in (0, 4, 100, 249)]
    assert got == pytest.approx(rates)
    assert (cfg.run.epochs, cfg.model.init_channels, cfg.model.layers, cfg.model.auxiliary) == (250, 48, 14, True)
    assert (step_cfg.auxiliary_weight, step_cfg.label_smooth, step_cfg.grad_clip) == (0.4, 0.1, 5.0)
    assert (cfg.optim.momentum, cfg.optim.weight_decay, cfg.model.drop_path_prob) == (0.9, 3e-5, 0.0)
    assert cfg.runtime.sync_bn == (step_cfg.batch_size < 64)  # small batches share their statistics


def test_every_preset_is_tested_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*PRESETS, "smoke"}


def test_smoke_is_small_and_uses_all_of_it():
    cfg = preset("smoke")
    assert cfg.data.loader == "synthetic" and cfg.run.checkpoint_freq and cfg.runtime.replica_check
    assert [step_config(cfg, World(torch.device("cpu"), size=n)).accumulate for n in (1, 2, 4)] == [4, 2, 1]


@pytest.mark.parametrize(
    ("processes", "way_out"), [(3, "a number of processes that divides 1024"), (16, "--batch_size 64")]
)
def test_processes_that_do_not_divide_the_batch_are_refused_with_the_way_out(processes, way_out):
    with pytest.raises(ValueError) as refusal:
        step_config(preset("large_batch"), World(torch.device("cpu"), size=processes))
    said = str(refusal.value)
    assert said.startswith(f"--global_batch_size 1024 is no multiple of --batch_size 128 times {processes} processes")
    assert said.endswith(way_out) and "\n" not in said
    if processes == 16:
        assert step_config(preset("large_batch", *way_out.split()), World(torch.device("cpu"), size=16)).accumulate == 1


def test_the_search_on_imagenet_takes_the_batches_and_the_rates_of_pc_darts():
    """train_search_imagenet.py of its repository; its cell is of half the channels, and edges have weights."""
    cfg = parse_config(SearchConfig, ["--config", str(FOLDER.parent / "search" / "pc_darts_imagenet.yaml")])
    assert (cfg.stem, cfg.model.init_channels, cfg.model.layers, cfg.run.epochs) == ("imagenet", 16, 8, 50)
    assert (cfg.model.partial_channels, cfg.model.edge_norm, cfg.arch_optim.alpha_warmup_epochs) == (2, True, 35)
    assert (8 * cfg.data.batch_size, cfg.data.weight_share, cfg.data.alpha_share) == (1024, 0.1, 0.025)
    images = cfg.imagenet()
    assert (images.image_size, images.batch_size, images.jitter, images.loader) == (224, 128, "none", "dali")
    assert (cfg.arch_optim.arch_learning_rate, cfg.arch_optim.arch_weight_decay) == (6e-3, 1e-3)
    cosine = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(cosine, 50)
    for epoch in range(50):
        expected = schedule.get_last_lr()[0] * (min(epoch + 1, 5) / 5)
        assert search_learning_rate(epoch, 50, cfg.optim) == pytest.approx(expected, abs=1e-9)
        cosine.step()
        schedule.step()
