"""What the entry points do, from Python, and cells as models: darts_hpc.search_cell, train_cell, create_model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darts_hpc.commands import train, train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.table import DATASETS
from darts_hpc.errors import Stopped
from darts_hpc.models.classifier import Classifier
from darts_hpc.models.state_dicts import load_original
from darts_hpc.run.reader import accuracy_of, read_config, read_result
from darts_hpc.run.weights import read_weights
from darts_hpc.search.relaxations import Relaxation
from darts_hpc.space.genotypes import GENOTYPES, Genotype, load_genotype
from darts_hpc.space.spaces import SearchSpace
from darts_hpc.suggest import did_you_mean

SIZES = {False: (36, 20), True: (48, 14)}
"""Channels and cells of the paper's networks, for CIFAR and for ImageNet."""
TRAININGS = ("train", "train_imagenet")
"""Entries whose runs train a network of a cell."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end, and what its result.json says."""

    folder: Path
    result: dict[str, Any]

    @property
    def genotype(self) -> Genotype:
        """The cell it found or trained."""
        return load_genotype(str(self.folder))

    @property
    def accuracy(self) -> float:
        """Accuracy in percent at the final epoch, on test images, or on the validation images of a search."""
        accuracy = accuracy_of(self.result["final"])
        assert accuracy is not None  # a run without one does not finish
        return accuracy


def search_cell(
    *, space: str | SearchSpace | None = None, relaxation: str | Relaxation | None = None, **flags: Any
) -> FinishedRun:
    """Search a cell: python -m darts_hpc.train_search with these flags, such as epochs=10 or config="FILE.yaml".

    Args:
        space, relaxation: those flags, or a space and a relaxation of your own.
    """
    own: dict[str, Any] = {}
    for name, value in (("space", space), ("relaxation", relaxation)):
        if value is None or isinstance(value, str):
            flags[name] = value
        else:
            own[name] = value
    search = partial(train_search.main, **own)
    return _finished(search, parse_config(SearchConfig, _tokens(flags)))


def train_cell(**flags: Any) -> FinishedRun:
    """Train a cell from scratch: python -m darts_hpc.train with these flags, such as arch=search_cell(...).folder."""
    return _finished(train.main, parse_config(TrainConfig, _tokens(flags)))


def create_model(
    cell: str | Path | Genotype,
    dataset: str = "cifar10",
    *,
    weights: bool | str | Path = False,
    num_classes: int | None = None,
    init_channels: int | None = None,
    layers: int | None = None,
    drop_path_prob: float = 0.0,
) -> Classifier:
    """Return a derived network that maps normalised images (B, 3, H, W) to logits (B, classes).

    Args:
        cell: a published name (DARTS_V2, ...), a genotype or its file, or a run folder. The folder of a training brings
            its own data set, classes and size.
        dataset: decides the stem and the number of classes; imagenet gives the network for 224x224 images.
        weights: True loads what the run folder's training ended with; a path loads that file.
        num_classes, init_channels, layers: instead of the data set's own, and of the paper's sizes.

    Raises:
        ValueError: an unknown cell or data set, or weights that are missing or don't fit.
    """
    genotype = cell if isinstance(cell, Genotype) else load_genotype(str(cell))
    run = _training(cell)
    state = _read_state(run, cell, weights)
    if run is not None:
        entry, flags = read_config(run)
        dataset = flags.get("dataset", "imagenet" if entry == "train_imagenet" else dataset)
        init_channels, layers = init_channels or flags["init_channels"], layers or flags["layers"]
        num_classes = num_classes or _num_classes(run)
        if num_classes is None and entry == "train_imagenet":
            raise ValueError(f"{run} is unfinished, and does not say yet how many classes it has; give num_classes")
    num_classes = num_classes or _num_classes_of(dataset)
    for_imagenet = dataset == "imagenet"
    model = Classifier(
        "imagenet" if for_imagenet else "cifar",
        genotype,
        num_classes=num_classes,
        init_channels=init_channels or SIZES[for_imagenet][0],
        layers=layers or SIZES[for_imagenet][1],
        drop_path_prob=drop_path_prob,
    )
    if state is not None:
        load_original(model, state)
    return model.eval()


def register_timm() -> list[str]:
    """Add every published cell to timm's registry, as darts_v2_cifar, darts_v2_imagenet, ...; return the names.

    Asked for, because importing this package changes nothing outside of it. Raises ValueError when timm is missing.
    """
    try:
        from timm.models import register_model
    except ImportError:
        raise ValueError("timm is not installed; install it with: pip install timm") from None
    names = []
    for cell in GENOTYPES:
        for dataset in ("cifar", "imagenet"):
            entry = _timm_entry(cell, "cifar10" if dataset == "cifar" else "imagenet")
            entry.__name__ = f"{cell.lower()}_{dataset}"
            globals().setdefault("__all__", [])  # timm appends to the module's list
            register_model(entry)
            names.append(entry.__name__)
    return names


def _timm_entry(cell: str, dataset: str) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        """Build the network; timm hands over num_classes, drop_path_rate and whatever its user gave."""
        if pretrained:
            raise ValueError(f"there are no weights to download for {cell}; load a state dict of your own")
        known = {"num_classes", "init_channels", "layers"}
        drop_path_prob = kwargs.pop("drop_path_rate", 0.0)
        own = {key: kwargs[key] for key in known & kwargs.keys() if kwargs[key] is not None}
        return create_model(cell, dataset, drop_path_prob=drop_path_prob, **own).train()

    return entry


def _num_classes_of(dataset: str) -> int:
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r} is unknown; {did_you_mean(dataset, DATASETS)}")
    if not DATASETS[dataset].num_classes:
        raise ValueError(f"dataset {dataset!r}: how many classes it has, only its files say; give num_classes")
    return DATASETS[dataset].num_classes


def _finished(main: Callable[[Any], Path], cfg: Any) -> FinishedRun:
    try:
        folder = main(cfg)
    except Stopped as stop:
        raise ValueError(f"{stop}; the same call with save='{stop.folder}/', resume='auto' goes on") from None
    result = read_result(folder)
    assert result is not None
    return FinishedRun(folder, result)


def _training(cell: object) -> Path | None:
    """Return the folder of the training that this names; None for any other cell, such as a search's."""
    folder = Path(str(cell)) if isinstance(cell, str | Path) else None
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    return folder if read_config(folder)[0] in TRAININGS else None


def _num_classes(run: Path) -> int | None:
    """Return how many classes a training's images have, as far as its folder says."""
    result = read_result(run)
    if result is not None and "preprocessing" in result:
        return len(result["preprocessing"]["classes"])
    weights = run / "weights.pt"  # a run on ImageNet by an older version
    return len(read_weights(weights, "weights")["classifier.bias"]) if weights.is_file() else None


def _read_state(run: Path | None, cell: object, weights: bool | str | Path) -> Mapping[str, torch.Tensor] | None:
    """Return the state dict that is asked for. Raises ValueError where there is none."""
    if weights is False:
        return None
    if weights is not True:
        if not Path(weights).is_file():
            raise ValueError(f"no weights in {weights}; give a file of weights")
        return read_weights(Path(weights), "weights")
    path = Path(str(cell)) / "weights.pt"
    if run is None and (path.parent / "config.yaml").is_file():
        raise ValueError(
            f"{cell} is a run of {read_config(path.parent)[0]}, which trains no network of its cell; train it first: "
            f"python -m darts_hpc.train --arch {cell}"
        )
    if run is None or not path.is_file():
        raise ValueError(f"no weights in {path}; give the folder of a finished training, or a file of weights")
    return read_weights(path, "weights")


def _tokens(flags: dict[str, Any]) -> list[str]:
    tokens = []
    for name, value in flags.items():
        if isinstance(value, bool):
            tokens.append(f"--{name}" if value else f"--no_{name}")
        elif isinstance(value, list | tuple):
            tokens += [f"--{name}", *map(str, value)]
        elif value is not None:
            tokens.append(f"--{name}={value}")
    return tokens
