"""Flags of ImageNet training. The original train_imagenet.py's keep their names, meanings and defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darts_hpc.config.schema import _check_choice, _check_not_negative, _check_positive

ImageNetLoader = Literal["dali", "torchvision", "synthetic"]
Jitter = Literal["twist", "exact"]
Decode = Literal["auto", "gpu", "cpu"]


@dataclass(frozen=True, kw_only=True)
class ImageNetDataConfig:
    """Images, how they are read, and their augmentation."""

    data: Path = Path("../data/imagenet/")
    """Folder of train/CLASS/* and val/CLASS/*, or of tar shards, whose names hold train and val."""
    loader: ImageNetLoader = "dali"
    """dali decodes in C++ threads or on the GPU; torchvision in worker processes; synthetic reads nothing."""
    batch_size: int = 128
    """Images a step in each process."""
    valid_batch_size: int | None = None
    """Images a validation step in each process; --batch_size when left out."""
    image_size: int = 224
    """Side in pixels of the images that the network sees."""
    resize: int = 256
    """Length in pixels of a validation image's shorter side before its centre is cut out."""
    jitter: Jitter = "twist"
    """dali's colour jitter: twist (its own, fast) or exact (torchvision's); --loader torchvision is always exact."""
    decode: Decode = "auto"
    """Where dali decodes JPEGs: auto is the GPU where there is one."""
    num_threads: int = 4
    """Threads (dali) or worker processes (torchvision) that prepare images, in each process."""
    prefetch: int = 2
    """Batches prepared ahead."""
    max_bad_images: int = 10
    """Damaged images to leave out, each named in the log; one more stops the run."""
    manifest: Path | None = None
    """File that keeps the list of images; in --data, or in ~/.cache where that is read-only, when left out."""
    synthetic_images: int = 1_281_167
    """Training images of --loader synthetic; a 25th as many validate."""
    synthetic_classes: int = 1000
    """Classes of --loader synthetic."""

    def __post_init__(self) -> None:
        _check_choice(self, "loader", ImageNetLoader)
        _check_choice(self, "jitter", Jitter)
        _check_choice(self, "decode", Decode)
        _check_positive(self, "batch_size", "num_threads", "prefetch", "synthetic_images")
        _check_not_negative(self, "max_bad_images")
        if self.valid_batch_size is not None:
            _check_positive(self, "valid_batch_size")
        if self.image_size < 32:
            raise ValueError(f"--image_size {self.image_size}: expected at least 32, because the network divides by 32")
        if self.resize < self.image_size:
            raise ValueError(
                f"--resize {self.resize}: expected at least --image_size {self.image_size}, which is cut out of it"
            )
        if self.synthetic_classes < 2:
            raise ValueError(f"--synthetic_classes {self.synthetic_classes}: expected two or more")
