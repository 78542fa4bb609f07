"""Accuracy of trained weights (the original test.py, test_imagenet.py): darts_hpc.evaluate --model_path RUN_OR_FILE."""

import dataclasses
import math
import sys
from collections.abc import Collection, Mapping

from torch import Tensor

from darts_hpc.config.cli import given_flags, parse_config
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.config.shared import ComputeConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.imagenet.load import open_validation
from darts_hpc.data.loading.batches import Loader
from darts_hpc.data.loading.sources import eval_source
from darts_hpc.data.loading.split import held_out_split
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.errors import Diverged
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.models.state_dicts import has_auxiliary_head, load_original
from darts_hpc.run.metrics import Meter
from darts_hpc.run.weights import read_weights
from darts_hpc.space.genotypes import NOTES, load_genotype
from darts_hpc.training.loops import evaluate
from darts_hpc.training.precision import Precision, choose_precision, memory_format
from darts_hpc.user_files import is_folder


def main(cfg: EvaluateConfig) -> None:
    """Print the accuracy of a run's newest weights, or of a file's: on the test images, or those it held out."""
    state = read_weights(cfg.model_path)
    if is_folder(cfg.model_path):
        cfg = with_network_of_run(cfg, given_flags())
    genotype = load_genotype(cfg.arch)
    with World.open(cfg.device, cfg.gpu) as world:
        precision = Precision(choose_precision(cfg.compute.precision, world.device), world.device)
        data = load_dataset(cfg.dataset, cfg.data, image_size=cfg.image_size, world=world)
        network = DerivedNetwork("cifar", cfg.init_channels, data.num_classes, cfg.layers, cfg.auxiliary, genotype)
        if world.is_main:
            print(measure_costs(network, data.image_size))
        load_for_test(network, state, world, cfg.arch)
        layout = memory_format(cfg.compute.channels_last)
        network, _, fallback = choose_network(cfg.network, network.to(world.device), world.device)
        if fallback and world.is_main:
            print(fallback)
        held_out = held_out_split(data.train.labels, cfg.held_out, cfg.seed)[1] if cfg.held_out else None
        part = data.test if held_out is None else data.train
        source = eval_source(data, part, cfg.batch_size, cfg.seed, world, held_out)
        meter = evaluate(network.to(memory_format=layout), source, precision=precision, memory_format=layout)
        kind, images = ("test", "images") if held_out is None else ("valid", "training images, held out,")
        report(kind, f"{images} of {data.name}", meter, source, world)


def main_imagenet(cfg: EvaluateImageNetConfig) -> None:
    """Print the validation accuracy on ImageNet (the original test_imagenet.py), over any number of processes."""
    state = read_weights(cfg.model_path)
    if is_folder(cfg.model_path):
        cfg = with_imagenet_network_of_run(cfg, given_flags())
    genotype = load_genotype(cfg.arch)
    with World.open(cfg.device, cfg.gpu) as world:
        precision = Precision(choose_precision(cfg.compute.precision, world.device), world.device)
        source, classes = open_validation(cfg.data, cfg.seed, world)
        network = DerivedNetwork("imagenet", cfg.init_channels, len(classes), cfg.layers, cfg.auxiliary, genotype)
        if world.is_main:
            print(measure_costs(network, cfg.data.image_size))
        load_for_test(network, state, world, cfg.arch)
        layout = memory_format(cfg.compute.channels_last)
        network, _, fallback = choose_network(cfg.network, network.to(world.device), world.device)
        if fallback and world.is_main:
            print(fallback)
        meter = evaluate(network.to(memory_format=layout), source, precision=precision, memory_format=layout)
        images = "made-up images" if cfg.data.loader == "synthetic" else "images of ImageNet"
        report("validation", images, meter, source, world)


def load_for_test(network: DerivedNetwork, state: Mapping[str, Tensor], world: World, arch: str) -> None:
    """Load weights without the auxiliary head, theirs or the network's: only training uses it, and forks vary it."""
    network.auxiliary_head = None
    if arch in NOTES and world.is_main:
        print(f"--arch {arch}: {NOTES[arch]}", file=sys.stderr)
    if has_auxiliary_head(state) and world.is_main:
        print("the auxiliary head of these weights is left out: a test does not use it", file=sys.stderr)
    load_original(network, state)


def report(kind: str, images: str, meter: Meter, source: Loader, world: World) -> None:
    """Print the accuracy over all images, each classified once, on whichever rank it lies.

    Raises ValueError where damage has left no image, and Diverged where the loss is not finite.
    """
    test, num_images = meter.compute(world), meter.count(world)
    if not num_images:
        raise ValueError(f"each of the {source.num_samples} {images} is damaged; repair them, or test on others")
    if not math.isfinite(test["loss"]):
        raise Diverged(
            f"the {kind} loss is {test['loss']}: expected a number; the training of these weights diverged, or "
            "--precision has not enough range for them (try fp32)"
        )
    if world.is_main:
        print(
            f"{kind} accuracy {test['accuracy']:.2f} % on {num_images} {images} "
            f"(top 5 {test['accuracy_top5']:.2f} %, loss {test['loss']:.4f})"
        )


def with_network_of_run(cfg: EvaluateConfig, given: Collection[str]) -> EvaluateConfig:
    """Return the config with network and data set of the training run in cfg.model_path; given flags of data win."""
    run = cfg.model_path
    trained = parse_config(TrainConfig, ["--config", str(run / "config.yaml")])
    names = ("dataset", "data", "image_size", "held_out")
    images = {name: getattr(trained.data, name) for name in names if name not in given}
    if "seed" not in given:  # which chose what was held out
        images["seed"] = trained.run.seed
    return dataclasses.replace(
        cfg,
        arch=str(run),
        init_channels=trained.model.init_channels,
        layers=trained.model.layers,
        auxiliary=trained.model.auxiliary,
        compute=with_compute_of_run(cfg.compute, trained.runtime, given),
        **images,
    )


def with_imagenet_network_of_run(cfg: EvaluateImageNetConfig, given: Collection[str]) -> EvaluateImageNetConfig:
    """Return the config with network and images of the ImageNet training in cfg.model_path; given flags of data win."""
    run = cfg.model_path
    trained = parse_config(ImageNetConfig, ["--config", str(run / "config.yaml")])
    asked = {*given, "valid_batch_size"}  # which is --batch_size, when left out
    if "data" in given:
        asked.add("manifest")  # the run's lists other images
    ours = {item.name: getattr(cfg.data, item.name) for item in dataclasses.fields(cfg.data) if item.name in asked}
    return dataclasses.replace(
        cfg,
        arch=str(run),
        init_channels=trained.model.init_channels,
        layers=trained.model.layers,
        auxiliary=trained.model.auxiliary,
        compute=with_compute_of_run(cfg.compute, trained.runtime, given),
        data=dataclasses.replace(trained.data, **ours),
    )


def with_compute_of_run(asked: ComputeConfig, runtime: ComputeConfig, given: Collection[str]) -> ComputeConfig:
    """Return the run's number formats and layouts, by which its own accuracy comes out; given flags win."""
    names = [item.name for item in dataclasses.fields(ComputeConfig)]
    return ComputeConfig(**{name: getattr(asked if name in given else runtime, name) for name in names})
