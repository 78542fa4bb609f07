"""A derived network as a plain classifier, as timm's users expect it: images in, logits out."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.drop_path import random_factors
from darts_hpc.models.stems import STEMS
from darts_hpc.space.genotypes import Genotype

PAPER_SIZES = {"cifar": (36, 20), "imagenet": (48, 14)}
"""Channels and cells of the paper's networks."""
LARGEST = {"num_classes": 1 << 20, "in_chans": 1 << 12, "layers": 1000, "init_channels": 1 << 12}
"""Sizes above these are taken for a mistake, before they take the memory."""
POOLS = ("avg", "max", "avgmax", "catavgmax", "")
"""Global pools by timm's names; the empty one leaves the feature map."""


class GlobalPool(nn.Module):
    """Pool a feature map (B, C, H, W) to (B, C), to (B, 2 * C) for catavgmax, or leave it as it is."""

    def __init__(self, pool_type: str):
        super().__init__()
        if pool_type not in POOLS:
            raise ValueError(f"global_pool {pool_type!r} is unknown; choose from {', '.join(map(repr, POOLS))}")
        self.pool_type = pool_type

    def forward(self, x: Tensor) -> Tensor:
        if self.pool_type == "":
            return x
        average, largest = F.adaptive_avg_pool2d(x, 1).flatten(1), x.amax((2, 3))
        if self.pool_type == "avgmax":
            return 0.5 * (average + largest)
        if self.pool_type == "catavgmax":
            return torch.cat([average, largest], 1)
        return average if self.pool_type == "avg" else largest


class Classifier(DerivedNetwork):
    """Maps images (B, in_chans, H, W) to logits alone, and has no auxiliary head. Its arguments have timm's names.

    Its state dict is the network's, so the original's files and ours load. torch.jit and torch.fx take it as it is.

    Args:
        stem: a name in STEMS.
        num_classes: 0 for the pooled features in place of logits.
        init_channels, layers: the paper's when left out.
        in_chans: channels of the images.
        global_pool: one of POOLS; the empty one leaves the feature map, and goes with num_classes=0.
        drop_rate: chance to drop a pooled feature in training.
        drop_path_rate: chance to drop a path in training.

    Attributes:
        feature_info: channels, reduction and module of each feature map, the last one of each resolution.
    """

    def __init__(
        self,
        stem: str,
        genotype: Genotype,
        *,
        num_classes: int,
        init_channels: int | None = None,
        layers: int | None = None,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        init_channels = PAPER_SIZES[stem][0] if init_channels is None else init_channels
        layers = PAPER_SIZES[stem][1] if layers is None else layers
        _check(num_classes, init_channels, layers, in_chans, drop_rate, drop_path_rate)
        super().__init__(stem, init_channels, max(1, num_classes), layers, False, genotype, in_chans)
        self.in_chans, self.head_hidden_size = in_chans, self.num_features
        self.drop_rate, self.drop_path_rate = float(drop_rate), float(drop_path_rate)
        self.global_pool = GlobalPool("avg")
        if num_classes == 0 or global_pool != "avg":
            self.reset_classifier(num_classes, global_pool)
        kept = [layer - 1 for layer in self.cells.reductions] + [layers - 1]  # the last cell of each resolution
        whole = 8 if STEMS[stem].reduces else 1
        info: list[dict[str, Any]] = [
            {"num_chs": self.cells.channels[cell], "reduction": whole * 2**level, "module": f"cells.{cell}"}
            for level, cell in enumerate(kept)
        ]
        if STEMS[stem].reduces:
            info.insert(0, {"num_chs": init_channels, "reduction": 4, "module": "stem0"})
            kept.insert(0, -1)
        self.feature_info, self.feature_cells = info, kept
        self.to(device=device, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return logits (B, classes), or the pooled features (B, C) for no classes."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, H', W') of images (B, in_chans, H, W)."""
        s0, s1 = self.forward_stem(images)
        return self.cells(s0, s1, self.wanted_cells, self.drop_path(s0))[-1]

    def drop_path(self, like: Tensor) -> Tensor | None:
        """Return drop path's factors for the images of `like` (B, ...); None in evaluation."""
        keep: Tensor | None = None
        if self.training and self.drop_path_rate > 0:
            keep = random_factors(like, self.cells.num_paths, self.drop_path_rate)
        return keep

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, classes) of a feature map, or its pooled features (B, C)."""
        pooled = self.global_pool(features)
        if self.drop_rate > 0:
            pooled = F.dropout(pooled, self.drop_rate, self.training)
        return pooled if pre_logits else self.classifier(pooled)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return (the last feature map, those of feature_info), or the latter alone.

        Args:
            indices: numbers in feature_info, negative ones from its end, or how many of the last ones; None for all.
            norm, stop_early: without effect here; prune_intermediate_layers takes off what is not needed.
            output_fmt: NCHW, all that there is.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt {output_fmt!r}: feature maps are NCHW")
        cells = [self.feature_cells[level] for level in self._levels(indices)]
        wanted = sorted({cell for cell in cells if cell >= 0} | {len(self.cells) - 1})
        s0, s1 = self.forward_stem(x)
        outputs = dict(zip(wanted, self.cells(s0, s1, wanted, self.drop_path(s0)), strict=False))
        features = [s0 if cell < 0 else outputs[cell] for cell in cells]
        return features if intermediates_only else (outputs.get(wanted[-1], s1), features)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the feature maps of these indices don't need; return them as numbers in feature_info."""
        levels = self._levels(indices)
        del self.cells[max(self.feature_cells[level] for level in levels) + 1 :]
        if prune_head:
            self.reset_classifier(0, "")
        return levels

    def _levels(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        listed = range(-indices, 0) if isinstance(indices, int) else indices
        if not listed or any(not -count <= index < count for index in listed):
            raise ValueError(f"feature indices {indices}: expected some of the {count} feature maps, counted from 0")
        return [index % count for index in listed]

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh last layer in, of the weights' device and dtype; 0 classes leave the pooled features.

        Raises ValueError for an unknown pool, and for classes without one.
        """
        pool = self.global_pool if global_pool is None else GlobalPool(global_pool).train(self.training)
        if num_classes < 0:
            raise ValueError(f"num_classes {num_classes}: expected 0, for features, or more")
        if num_classes and pool.pool_type == "":
            raise ValueError(
                f"num_classes {num_classes} without a global_pool: expected 0 classes, or one of the pools"
            )
        like = next(self.parameters())
        width = self.num_features * (2 if pool.pool_type == "catavgmax" else 1)
        layer = nn.Linear(width, num_classes, device=like.device, dtype=like.dtype) if num_classes else nn.Identity()
        self.add_module("classifier", layer.train(self.training))
        self.global_pool, self.num_classes = pool, num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the cells' inputs for backward, and compute the rest once more: less memory, the same numbers."""
        self.cells.checkpoint_cells = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that sort the weights into the stem and the cells, for learning rates by depth."""
        return {"stem": r"^stem[01]?\.", "blocks": r"^cells\.(\d+)"}


def _check(
    num_classes: int, init_channels: int, layers: int, in_chans: int, drop_rate: float, drop_path_rate: float
) -> None:
    """Refuse sizes of which no network can be made, and chances that are none."""
    for name, value, low, meaning in (
        ("num_classes", num_classes, 0, "0, for features, or more"),
        ("in_chans", in_chans, 1, "1 or more"),
        ("layers", layers, 3, "3 or more: two reduction cells and a normal one"),
        ("init_channels", init_channels, 2, "2 or more, and even"),
    ):
        if not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} {value!r}: expected {meaning}")
        if value > LARGEST[name]:
            raise ValueError(f"{name} {value}: expected at most {LARGEST[name]}")
    if init_channels % 2:
        raise ValueError(f"init_channels {init_channels}: expected an even number, which a reduction splits in halves")
    for name, chance in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if not isinstance(chance, Real) or not 0 <= chance < 1:
            raise ValueError(f"{name} {chance!r}: expected a number from 0 up to, but not including, 1")
