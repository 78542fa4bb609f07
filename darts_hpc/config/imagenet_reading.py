"""How ImageNet's images are read: flags of its training and of a search on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import check_at_most, check_choice, check_not_negative, check_positive
from darts_hpc.config.flags import flag

ImageNetLoader = Literal["dali", "torchvision", "synthetic"]


Jitter = Literal["twist", "exact", "none"]


Decode = Literal["auto", "gpu", "cpu"]


@dataclass(frozen=True, kw_only=True)
class ImageNetReadingConfig:
    """How ImageNet's images are read, and their augmentation."""

    loader: ImageNetLoader = "dali"
    """What reads the images: dali decodes in C++ threads or on the GPU; torchvision in worker processes; synthetic
    makes them up, and reads nothing."""
    resize: int = 256
    """Length in pixels of a validation image's shorter side before its centre is cut out."""
    jitter: Jitter = "twist"
    """Colour jitter of --loader dali: twist (its own, fast) or exact (torchvision's); --loader torchvision is always
    exact. With none, neither loader changes colours."""
    decode: Decode = "auto"
    """Where --loader dali decodes JPEGs: auto is the GPU where there is one."""
    num_threads: int = flag(4, affects="nothing")
    """Threads (dali) or worker processes (torchvision) that prepare images, in each process; a search has three times
    as many, for its weights, its alphas and its validation."""
    prefetch: int = flag(2, affects="nothing")
    """Number of batches that are prepared ahead."""
    max_bad_images: int = flag(10, affects="nothing")
    """Number of damaged images that may be left out, each named in the log; one more stops the run."""
    manifest: Path | None = flag(None, affects="nothing")
    """File that keeps the list of images; left out, a file in --data, or in ~/.cache where that is read-only."""
    synthetic_images: int = 1_281_167
    """Number of training images of --loader synthetic; a 25th as many validate."""
    synthetic_classes: int = 1000
    """Number of classes of --loader synthetic."""

    def __post_init__(self) -> None:
        check_choice(self, "loader", ImageNetLoader)
        check_choice(self, "jitter", Jitter)
        check_choice(self, "decode", Decode)
        check_positive(self, "num_threads", "prefetch", "synthetic_images")
        check_not_negative(self, "max_bad_images")
        if self.manifest is not None and not self.manifest.name:
            raise ValueError(f"--manifest {str(self.manifest)!r}: expected a file, such as manifest.npz")
        check_at_most(self, "resize", "synthetic_classes")
        if self.synthetic_classes < 2:
            raise ValueError(f"--synthetic_classes {self.synthetic_classes}: expected two or more")


@dataclass(frozen=True, kw_only=True)
class ImageNetDataConfig(ImageNetReadingConfig):
    """Images, how they are read, and their augmentation."""

    data: Path = flag(Path("../data/imagenet/"), affects="nothing")
    """Folder of ImageNet: train/CLASS/* and val/CLASS/*, or tar shards whose names or folders say train or val."""
    batch_size: int = flag(128, affects="batches")
    """Images per step in each process (GPU)."""
    valid_batch_size: int | None = flag(None, affects="nothing")
    """Images per validation step in each process; left out, --batch_size."""
    image_size: int = 224
    """Side in pixels of the images that the network sees."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")
        if self.valid_batch_size is not None:
            check_positive(self, "valid_batch_size")
        check_at_most(self, "image_size")
        if self.image_size < 32:
            raise ValueError(f"--image_size {self.image_size}: expected at least 32, because the network divides by 32")
        if self.resize < self.image_size:
            raise ValueError(
                f"--resize {self.resize}: expected at least --image_size {self.image_size}, which is cut out of it"
            )
