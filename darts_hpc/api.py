"""What the entry points do, from Python, and cells as models: darts_hpc.search_cell, train_cell, create_model."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from darts_hpc.commands import train, train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.arrays import Arrays, array_data
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.table import DATASETS
from darts_hpc.errors import Stopped
from darts_hpc.models.classifier import Classifier
from darts_hpc.models.state_dicts import load_original
from darts_hpc.run.reader import accuracy_of, read_config, read_result
from darts_hpc.run.weights import read_weights
from darts_hpc.search.relaxations import Relaxation
from darts_hpc.space.genotype_text import is_text
from darts_hpc.space.genotypes import Genotype, load_genotype
from darts_hpc.space.spaces import SearchSpace
from darts_hpc.suggest import did_you_mean
from darts_hpc.user_files import exists

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
    space: str | SearchSpace | None = None,
    *,
    relaxation: str | Relaxation | None = None,
    data: str | Path | Arrays | DataSet | None = None,
    **flags: Any,
) -> FinishedRun:
    """Search a cell: python -m darts_hpc.train_search with these flags, such as epochs=10 or config="FILE.yaml".

    Args:
        space, relaxation: those flags, or a space and a relaxation of your own.
        data: that flag, or (images, labels) of your own, or array_data's data set.

    Raises:
        ValueError: one line for a mistake in a flag, the images or the labels; also where the run was stopped.
    """
    own: dict[str, Any] = {}
    for name, value in (("space", space), ("relaxation", relaxation)):
        if value is None or isinstance(value, str):
            flags[name] = value
        else:
            own[name] = value
    _check_members(own)
    own["data"], flags = _own_data(data, None, flags)
    return _finished(partial(train_search.main, **own), parse_config(SearchConfig, _tokens(flags)))


def train_cell(
    *, data: str | Path | Arrays | DataSet | None = None, test_data: Arrays | None = None, **flags: Any
) -> FinishedRun:
    """Train a cell from scratch: python -m darts_hpc.train with these flags, such as arch=search_cell(...).folder.

    Args:
        data: that flag, or (images, labels) of your own, or array_data's data set.
        test_data: (images, labels) that the network is tested on; without them, held_out says how many to hold out.

    Raises:
        ValueError: one line for a mistake in a flag, the images or the labels; also where the run was stopped.
    """
    own, flags = _own_data(data, test_data, flags)
    return _finished(partial(train.main, data=own), parse_config(TrainConfig, _tokens(flags)))


def _check_members(own: dict[str, Any]) -> None:
    """Raise ValueError where a space or a relaxation of a user's own can't be one."""
    space, relaxation = own.get("space"), own.get("relaxation")
    if space is not None and not isinstance(space, SearchSpace):
        raise ValueError(f"space {space!r}: expected a name, such as 's2', or a darts_hpc.SearchSpace")
    if relaxation is None:
        return
    try:
        inspect.signature(relaxation).bind(None, None, None)
    except TypeError:
        raise ValueError(
            f"relaxation {relaxation!r}: expected a name, such as 'gumbel', or a function of (alphas, draw, tau)"
        ) from None


def _own_data(
    data: str | Path | Arrays | DataSet | None, test_data: Arrays | None, flags: dict[str, Any]
) -> tuple[DataSet | None, dict[str, Any]]:
    """Return the data set of a user's own images, None where flags name one, and the flags that go with it."""
    if data is None or isinstance(data, str | Path):
        if test_data is not None:
            raise ValueError("test_data goes with data=(images, labels)")
        return None, {**flags, "data": data}
    if test_data is not None and flags.get("held_out"):
        raise ValueError(
            f"held_out={flags['held_out']} beside test_data, which would not be looked at; give one of them"
        )
    if flags.get("dataset") not in (None, "arrays"):
        raise ValueError(f"dataset={flags['dataset']!r} beside images of your own; give one of them")
    if not isinstance(data, DataSet):
        data = array_data(data, test_data, image_size=flags.get("image_size"))
    elif test_data is not None or flags.get("image_size") not in (None, data.image_size):
        raise ValueError("test_data and image_size are array_data's: give them there")
    return data, {**flags, "dataset": "arrays", "image_size": data.image_size}


def create_model(
    cell: str | Path | Genotype,
    dataset: str = "cifar10",
    *,
    weights: bool | str | Path = False,
    num_classes: int | None = None,
    init_channels: int | None = None,
    layers: int | None = None,
    in_chans: int = 3,
    global_pool: str = "avg",
    drop_rate: float = 0.0,
    drop_path_prob: float = 0.0,
) -> Classifier:
    """Return a derived network that maps normalised images (B, in_chans, H, W) to logits (B, classes).

    Args:
        cell: a published name (DARTS_V2, ...), a genotype or its file, or a run folder. The folder of a training brings
            its own data set, classes and size.
        dataset: decides the stem and the number of classes; imagenet gives the network for 224x224 images.
        weights: True loads what the run folder's training ended with; a path loads that file.
        num_classes, init_channels, layers: instead of the data set's own, and of the paper's sizes; 0 classes give the
            pooled features (B, C), also of a network with weights.
        in_chans, global_pool, drop_rate: as timm has them: channels of the images, the pool before the last layer (avg,
            max, avgmax, catavgmax, or "" for none), and the chance to drop a pooled feature in training.

    Raises:
        ValueError: an unknown cell or data set, sizes of which no network can be made, or weights that are missing or
            don't fit.
    """
    if not isinstance(drop_path_prob, Real) or not 0 <= drop_path_prob < 1:
        raise ValueError(f"drop_path_prob {drop_path_prob!r}: expected a number from 0 up to, but not including, 1")
    genotype = cell if isinstance(cell, Genotype) else load_genotype(str(cell))
    run = _training(cell)
    state = _read_state(run, cell, weights)
    if run is not None:
        entry, flags = read_config(run)
        dataset = flags.get("dataset", "imagenet" if entry == "train_imagenet" else dataset)
        if missing := {"init_channels", "layers"} - flags.keys():
            raise ValueError(f"{run / 'config.yaml'} has no {missing.pop()}; give the folder as the run wrote it")
        init_channels = flags["init_channels"] if init_channels is None else init_channels
        layers = flags["layers"] if layers is None else layers
        num_classes = _num_classes(run) if num_classes is None else num_classes
        if num_classes is None and entry == "train_imagenet":
            raise ValueError(f"{run} is unfinished, and does not say yet how many classes it has; give num_classes")
    num_classes = _num_classes_of(dataset) if num_classes is None else num_classes
    model = Classifier(
        "imagenet" if dataset == "imagenet" else "cifar",
        genotype,
        num_classes=num_classes,
        init_channels=init_channels,
        layers=layers,
        in_chans=in_chans,
        global_pool=global_pool,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_prob,
    )
    if state is not None and num_classes == 0:
        state = {name: tensor for name, tensor in state.items() if "classifier." not in name}
    if state is not None:
        load_original(model, state)
    return model.eval()


def register_timm() -> list[str]:
    """Add every published cell to timm's registry, as darts_v2_cifar, darts_v2_imagenet, ...; return the names.

    Asked for, because importing this package changes nothing outside of it; a second time changes nothing.

    Raises ValueError when timm is missing.
    """
    if find_spec("timm") is None:
        raise ValueError("timm is not installed: pip install 'darts_hpc[timm]'")
    from darts_hpc.timm_models import register

    return register()


def _num_classes_of(dataset: str) -> int:
    if not isinstance(dataset, str) or dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r} is unknown; {did_you_mean(str(dataset), DATASETS)}")
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
    if folder is None or is_text(str(cell)) or not exists(folder / "config.yaml"):
        return None
    return folder if read_config(folder)[0] in TRAININGS else None


def _num_classes(run: Path) -> int | None:
    """Return how many classes a training's images have, as far as its folder says."""
    result = read_result(run)
    if result is not None and "preprocessing" in result:
        return len(result["preprocessing"]["classes"])
    weights = run / "weights.pt"  # a run on ImageNet by an older version
    return len(read_weights(weights, "weights")["classifier.bias"]) if exists(weights) else None


def _read_state(run: Path | None, cell: object, weights: bool | str | Path) -> Mapping[str, torch.Tensor] | None:
    """Return the state dict that is asked for. Raises ValueError where there is none."""
    if weights is False:
        return None
    if weights is not True:
        if not isinstance(weights, str | Path):
            raise ValueError(f"weights {weights!r}: expected True, or a file of weights")
        if not exists(Path(weights)):
            raise ValueError(f"no weights in {weights}; give a file of weights")
        return read_weights(Path(weights), "weights")
    path = Path(str(cell)) / "weights.pt"
    if run is None and exists(path.parent / "config.yaml"):
        raise ValueError(
            f"{cell} is a run of {read_config(path.parent)[0]}, which trains no network of its cell; train it first: "
            f"python -m darts_hpc.train --arch {cell}"
        )
    if run is None or not exists(path):
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
