"""What the entry points do, from Python, and cells as models: darts_hpc.search_cell, train_cell, create_model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darts_hpc import train, train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.errors import Stopped
from darts_hpc.models.classifier import Classifier
from darts_hpc.models.state_dicts import load_original
from darts_hpc.space.genotypes import GENOTYPES, Genotype, load_genotype

NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10, "digits": 10, "imagenet": 1000}
SIZES = {False: (36, 20), True: (48, 14)}
"""Channels and cells of the paper's networks, for CIFAR and for ImageNet."""


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
        final = self.result["final"]
        return final.get("test/accuracy", final.get("valid/accuracy"))


def search_cell(**flags: Any) -> FinishedRun:
    """Search a cell: python -m darts_hpc.train_search with these flags, such as epochs=10 or config="FILE.yaml"."""
    return _finished(train_search.main, parse_config(SearchConfig, _tokens(flags)))


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
            its own data set and size.
        dataset: decides the stem and the number of classes; imagenet gives the network for 224x224 images.
        weights: True loads what the run folder's training ended with; a path loads that file.
        num_classes, init_channels, layers: instead of the data set's own, and of the paper's sizes.

    Raises:
        ValueError: an unknown cell or data set, or weights that are missing or don't fit.
    """
    genotype = cell if isinstance(cell, Genotype) else load_genotype(str(cell))
    state = _read_state(cell, weights)
    result = _result_of_training(cell)
    if result is not None:
        cfg = parse_config(TrainConfig, ["--config", str(Path(str(cell)) / "config.yaml")])
        dataset, init_channels = cfg.data.dataset, init_channels or cfg.model.init_channels
        layers = layers or cfg.model.layers
        num_classes = num_classes or len(result["preprocessing"]["classes"])
    if num_classes is None and dataset not in NUM_CLASSES:
        raise ValueError(f"dataset {dataset!r} is unknown; choose from {', '.join(NUM_CLASSES)}, or give num_classes")
    for_imagenet = dataset == "imagenet"
    model = Classifier(
        "imagenet" if for_imagenet else "cifar",
        genotype,
        num_classes=num_classes or NUM_CLASSES[dataset],
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


def _finished(main: Callable[[Any], Path], cfg: Any) -> FinishedRun:
    try:
        folder = main(cfg)
    except Stopped as stop:
        raise ValueError(f"{stop}; the same call with save='{stop.folder}/', resume='auto' goes on") from None
    return FinishedRun(folder, json.loads((folder / "result.json").read_text(encoding="utf-8")))


def _result_of_training(cell: object) -> dict[str, Any] | None:
    path = Path(str(cell)) / "result.json" if isinstance(cell, str | Path) else Path()
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("entry") == "train" else None


def _read_state(cell: object, weights: bool | str | Path) -> dict[str, torch.Tensor] | None:
    if weights is False:
        return None
    path = Path(str(cell)) / "weights.pt" if weights is True else Path(weights)
    if not path.is_file() or (weights is True and _result_of_training(cell) is None):
        raise ValueError(f"no weights in {path}; give the folder of a finished training, or a file of weights")
    return torch.load(path, map_location="cpu", weights_only=True)


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
