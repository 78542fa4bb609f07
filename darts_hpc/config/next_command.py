"""What to type after a search."""

import shlex
from pathlib import Path

from darts_hpc.config.cli import find_preset, parse_config, presets_given
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig


def train_the_cell(cfg: SearchConfig, run: str) -> str:
    """Return the training of a search's cell: by the preset of the same name, if there is one, and on the same
    images."""
    if cfg.data.dataset == "imagenet":
        return f"train_imagenet --auxiliary {shlex.join(['--data', str(cfg.data.data)])} --arch {run}"
    flags = []
    for file in presets_given():
        if Path(file).parent.name == "search":
            flags += ["--config", str(Path(file).parents[1] / "train" / Path(file).name)]
    try:
        for file in flags[1::2]:
            find_preset(file)
    except ValueError:
        flags = []
    trained = parse_config(TrainConfig, flags)
    for name in ("dataset", "data", "image_size"):
        if (value := getattr(cfg.data, name)) != getattr(trained.data, name):
            flags += [f"--{name}", str(value)]
    return f"train {shlex.join(flags)} --arch {run}".replace("  ", " ")
