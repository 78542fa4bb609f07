"""Flags of the test. The original test.py's and test_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import (
    MAX_BATCH_SIZE,
    MAX_SEED,
    check_at_most,
    check_device,
    check_network,
    check_not_negative,
    check_positive,
)
from darts_hpc.config.shared import ComputeConfig, Dataset, check_images
from darts_hpc.config.train_imagenet import ImageNetDataConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Test the weights of a run, or a file of weights. A run folder brings its own network and data set."""

    model_path: Path = Path("EXP/model.pt")
    """A run folder, a checkpoint, or a state dict of the original scripts."""
    data: Path = Path("../data")
    """Folder the data set lies in, or is downloaded to."""
    dataset: Dataset = "cifar10"
    """Data set to test on; imagenet has flags of its own: --dataset imagenet --help."""
    image_size: int | None = None
    """Side in pixels to resize to; the data set's own size when left out, required by folder."""
    held_out: float = 0.0
    """Share of the training images to test on, those that --seed held out of a training, in place of the test images; a
    run's own when left out."""
    batch_size: int = 96
    """Images per step."""
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 36
    """Channels of the first cell."""
    layers: int = 20
    """Cells, stacked."""
    auxiliary: bool = False
    """The file holds an auxiliary classifier too."""
    cutout: bool = False
    """Unused in a test, as in the original."""
    cutout_length: int = 16
    """Unused in a test, as in the original."""
    drop_path_prob: float = 0.2
    """Unused in a test: no path is dropped."""
    report_freq: int = 50
    """Unused: a test reports once, at its end."""
    seed: int = 0
    """Seed, as in the original; a test draws no random numbers."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """The GPU that auto and cuda mean."""

    def __post_init__(self) -> None:
        check_images(self)
        check_network(self)
        check_positive(self, "batch_size")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held_out {self.held_out}: expected a share from 0 up to, but not including, 1")
        check_at_most(self, MAX_BATCH_SIZE, "batch_size")
        check_not_negative(self, "seed")
        check_at_most(self, MAX_SEED, "seed")
        check_device(self)


@dataclass(frozen=True, kw_only=True)
class EvaluateImageNetConfig:
    """Validate the weights of an ImageNet run, or of a file. A run folder brings its own network and images."""

    model_path: Path = Path("EXP/model.pt")
    """A run folder, a checkpoint, or a state dict of the original scripts."""
    dataset: Literal["imagenet"] = "imagenet"
    """Data set to test on; the others have flags of their own."""
    data: ImageNetDataConfig = field(default_factory=ImageNetDataConfig)
    arch: str = "DARTS"
    """The cell: a published name (DARTS, NASNet, ...), a genotype file, or the folder of a search run."""
    init_channels: int = 48
    """Channels of the first cell."""
    layers: int = 14
    """Cells, stacked."""
    auxiliary: bool = False
    """The file holds an auxiliary classifier too."""
    drop_path_prob: float = 0.0
    """Unused in a test: no path is dropped."""
    report_freq: int = 100
    """Unused: a test reports once, at its end."""
    seed: int = 0
    """Seed, as in the original; a test draws no random numbers."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:N."""
    gpu: int = 0
    """The GPU that auto and cuda mean."""

    def __post_init__(self) -> None:
        check_network(self)
        check_not_negative(self, "seed")
        check_at_most(self, MAX_SEED, "seed")
        check_device(self)
