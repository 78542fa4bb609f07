"""The published cells as models of timm's registry, built by timm's own builder. Needs timm; api.register_timm asks."""

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, model_entrypoint, register_model
from torch import nn

from darts_hpc.data.imagenet.read import samples
from darts_hpc.data.sets import cifar10
from darts_hpc.models.classifier import Classifier
from darts_hpc.space.genotypes import GENOTYPES

FEATURE_MAPS = {"cifar": 3, "imagenet": 4}
CONFIGS = {
    "cifar": {
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "num_classes": 10,
        "mean": cifar10.MEAN,
        "std": cifar10.STD,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": "stem.0",
        "classifier": "classifier",
    },
    "imagenet": {
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "num_classes": 1000,
        "mean": samples.MEAN,
        "std": samples.STD,
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "first_conv": "stem0.0",
        "classifier": "classifier",
    },
}
ENTRIES = {f"{cell.lower()}_{stem}": (cell, stem) for cell in GENOTYPES for stem in CONFIGS}
__all__: list[str] = []  # timm adds the names it registers
default_cfgs = generate_default_cfgs({name: CONFIGS[stem] for name, (_, stem) in ENTRIES.items()})
"""Where timm looks for them."""


def register() -> list[str]:
    """Register the entries that are not registered yet; return the names of all."""
    for name in ENTRIES:
        if not is_model(name) or model_entrypoint(name).__module__ != __name__:
            register_model(_entry(name))
    return list(ENTRIES)


def _entry(name: str) -> Any:
    cell, stem = ENTRIES[name]

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        """Build the network from timm's arguments and those of Classifier."""
        return build_model_with_cfg(
            partial(Classifier, stem, GENOTYPES[cell]),
            name,
            pretrained,
            feature_cfg={"out_indices": tuple(range(FEATURE_MAPS[stem])), "feature_cls": "getter"},
            **kwargs,
        )

    build.__name__ = name
    return build
