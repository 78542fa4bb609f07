"""Flags of the test. The original test.py's and test_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import (
    check_choice,
    check_device,
    check_network,
    check_not_negative,
    check_positive,
)
from darts_hpc.config.flags import flag
from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.config.shared import ComputeConfig, Dataset, NetworkForm, check_images


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Test the weights of a run, or a file of weights. A run folder brings its own network and data set."""

    model_path: Path = Path("EXP/model.pt")
    """Weights to test: the folder of a training run, or a file (weights.pt, or a state dict of the original scripts). A
    run folder sets the network's and the data set's flags too."""
    data: Path = Path("../data")
    """Folder the data set lies in, or is downloaded to."""
    dataset: Dataset = "cifar10"
    """Data set to test on; imagenet has flags of its own: --dataset imagenet --help."""
    image_size: int | None = None
    """Side in pixels that images are resized to; left out, the data set's own size. Required by --dataset folder and
    webdataset."""
    held_out: float = 0.0
    """Share of the training images, from 0 up to 1, to test on in place of the test images: those that --seed held out
    of a training; left out, a run's own."""
    batch_size: int = 96
    """Images per step."""
    device: str = "auto"
    """Device to compute on: auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """Index of the GPU that --device auto and cuda mean."""
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 36
    """Channels of the first cell."""
    layers: int = 20
    """Number of cells, one on another."""
    auxiliary: bool = False
    """Say that the file of weights holds an auxiliary classifier too."""
    network: NetworkForm = "auto"
    """Form of the network, as in a training; both compute the same function. auto: fast on a GPU, plain on a CPU."""
    cutout: bool = flag(False, unused=True)
    """Unused in a test, as in the original."""
    cutout_length: int = flag(16, unused=True)
    """Unused in a test, as in the original."""
    drop_path_prob: float = flag(0.2, unused=True)
    """Unused in a test: no path is dropped."""
    report_freq: int = flag(50, unused=True)
    """Unused: a test reports once, at its end."""
    seed: int = 0
    """Seed of the training whose held out images --held_out asks for; a test itself draws no random numbers."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        check_images(self)
        check_network(self)
        check_choice(self, "network", NetworkForm)
        check_positive(self, "batch_size")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share from 0 up to, but not including, 1")
        check_not_negative(self, "seed")
        check_device(self)


@dataclass(frozen=True, kw_only=True)
class EvaluateImageNetConfig:
    """Validate the weights of an ImageNet run, or of a file. A run folder brings its own network and images."""

    model_path: Path = Path("EXP/model.pt")
    """Weights to test: the folder of a training run, or a file (weights.pt, or a state dict of the original scripts). A
    run folder sets the network's and the data set's flags too."""
    dataset: Literal["imagenet"] = "imagenet"
    """Data set to test on; the others have flags of their own: evaluate --help."""
    device: str = "auto"
    """Device to compute on: auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """Index of the GPU that --device auto and cuda mean."""
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 48
    """Channels of the first cell."""
    layers: int = 14
    """Number of cells, one on another."""
    auxiliary: bool = False
    """Say that the file of weights holds an auxiliary classifier too."""
    network: NetworkForm = "auto"
    """Form of the network, as in a training; both compute the same function. auto: fast on a GPU, plain on a CPU."""
    drop_path_prob: float = flag(0.0, unused=True)
    """Unused in a test: no path is dropped."""
    report_freq: int = flag(100, unused=True)
    """Unused: a test reports once, at its end."""
    seed: int = flag(0, unused=True)
    """Unused: a test draws no random numbers."""
    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        check_network(self)
        check_choice(self, "network", NetworkForm)
        check_not_negative(self, "seed")
        check_device(self)
