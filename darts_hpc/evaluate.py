"""Test accuracy of trained weights (the original test.py): python -m darts_hpc.evaluate --model_path RUN_OR_FILE."""

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.schema import EvaluateConfig, TrainConfig
from darts_hpc.data.batches import BatchSource
from darts_hpc.data.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.engine.checkpoint import CheckpointStore
from darts_hpc.engine.loops import evaluate
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.network import NetworkCIFAR
from darts_hpc.models.state_dicts import load_original
from darts_hpc.space.genotypes import load_genotype


def main(cfg: EvaluateConfig) -> None:
    """Print the test accuracy of a run's newest weights, or of a file's."""
    state = read_weights(cfg.model_path)
    if cfg.model_path.is_dir():
        cfg = with_network_of_run(cfg)
    genotype = load_genotype(cfg.arch)
    with World.open(cfg.device, cfg.gpu) as world:
        data = load_dataset(cfg.dataset, cfg.data, image_size=cfg.image_size, world=world)
        network = NetworkCIFAR(cfg.init_channels, data.num_classes, cfg.layers, cfg.auxiliary, genotype)
        print(measure_costs(network, data.image_size))
        load_original(network, state)
        network = network.to(world.device).to(memory_format=torch.channels_last)
        source = BatchSource(
            data, data.test, batch_size=cfg.batch_size, seed=cfg.seed, device=world.device,
            rank=world.rank, world_size=world.size,
        )  # fmt: skip
        test = evaluate(network, source).compute(world)
        if world.is_main:
            print(
                f"test accuracy {test['accuracy']:.2f} % on {source.num_samples} images of {data.name} "
                f"(top 5 {test['accuracy_top5']:.2f} %, loss {test['loss']:.4f})"
            )


def with_network_of_run(cfg: EvaluateConfig) -> EvaluateConfig:
    """Return the config with network and data set of the training run in cfg.model_path."""
    run = cfg.model_path
    trained = parse_config(TrainConfig, ["--config", str(run / "config.yaml")])
    return dataclasses.replace(
        cfg,
        arch=str(run),
        init_channels=trained.model.init_channels,
        layers=trained.model.layers,
        auxiliary=trained.model.auxiliary,
        dataset=trained.data.dataset,
        data=trained.data.data if cfg.data == EvaluateConfig().data else cfg.data,
        image_size=trained.data.image_size,
    )


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a training run's newest valid checkpoint, in weights.pt or in an original .pt file.

    Raises ValueError, one line, for anything else.
    """
    if path.is_dir():
        newest = CheckpointStore(path / "checkpoints").load_newest()
        if newest is None:
            raise ValueError(f"--model_path {path} holds no checkpoint; give the folder of a training run, or a file")
        objects = newest.load("state")["objects"]
        if "network" not in objects:
            raise ValueError(f"--model_path {path} is a search; train its cell first: darts_hpc.train --arch {path}")
        return objects["network"]
    if not path.is_file():
        raise ValueError(f"--model_path {path} does not exist; give a run folder, or a .pt file of weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"--model_path {path} is damaged or holds no state dict ({reason})") from None
    if isinstance(content, dict) and "state_dict" in content:  # the original's ImageNet checkpoints
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"--model_path {path} holds no state dict; give the file that torch.save wrote of one")
    return content


if __name__ == "__main__":
    run_entry(main, EvaluateConfig)
