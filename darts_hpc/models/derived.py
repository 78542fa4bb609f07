"""The network of a derived cell, for CIFAR or for ImageNet (original model.py, with its submodule names)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.drop_path import drop_path_factors
from darts_hpc.models.layout import place_cells, reduction_layers
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.operations import OPERATIONS, FactorizedReduce, Noise, ReLUConvBN, place_noise


class Cell(nn.Module):
    """A derived cell: two edges enter each node."""

    def __init__(
        self,
        prev_prev_channels: int,
        prev_channels: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
        genotype: Genotype,
    ):
        super().__init__()
        enter = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess0 = enter(prev_prev_channels, channels)
        self.preprocess1 = ReLUConvBN(prev_channels, channels)
        edges = genotype.reduce if reduction else genotype.normal
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self.inputs = [state for _, state in edges]
        self._ops = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduction and state < 2 else 1, True) for name, state in edges
        )
        # Drop path skips identities, as the original does; a stride-2 skip is a FactorizedReduce and is dropped.
        self.droppable: list[bool] = [not isinstance(op, nn.Identity) for op in self._ops]

    def forward(self, s0: Tensor, s1: Tensor, keep: list[Tensor] | None, keys: Tensor | None = None) -> Tensor:
        """Return the concatenated nodes; `keep` has a (B, 1, 1, 1) factor per droppable edge; keys (B,) draw noise."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        factors = iter(keep or ())
        ends = []
        for op, state, droppable in zip(self._ops, self.inputs, self.droppable, strict=True):
            end = op(states[state], keys) if isinstance(op, Noise) else op(states[state])
            ends.append(end * next(factors) if keep and droppable else end)
            if len(ends) == 2:
                states.append(ends[0] + ends[1])
                ends = []
        return torch.cat([states[state] for state in self.concat], dim=1)


class CellStack(nn.ModuleList):
    """The cells in order, with drop path. In a network this module is named `cells`, as in the original."""

    def __init__(
        self, layers: int, init_channels: int, stem_channels: tuple[int, int], genotype: Genotype, reduction_prev: bool
    ):
        multipliers = (len(genotype.normal_concat), len(genotype.reduce_concat))
        places = list(place_cells(layers, init_channels, stem_channels, multipliers, reduction_prev))
        super().__init__(Cell(*place, genotype) for place in places)
        place_noise(self)
        self.auxiliary_layer = reduction_layers(layers)[1]
        widths = [multipliers[place.reduction] * place.channels for place in places]
        self.auxiliary_channels, self.out_channels = widths[self.auxiliary_layer], widths[-1]

    def forward(
        self, s0: Tensor, s1: Tensor, drop_path_prob: float | Tensor, keys: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the last cell's output and the output that feeds the auxiliary head."""
        counts = [cell.droppable.count(True) for cell in self.children() if isinstance(cell, Cell)]
        keeps: list[list[Tensor] | None] = [None] * len(self)
        if self.training and (isinstance(drop_path_prob, Tensor) or drop_path_prob > 0):
            factors = drop_path_factors(keys, len(s0), sum(counts), drop_path_prob, s0)
            keeps = [list(part) for part in factors.split(counts)]
        auxiliary_input = s1
        for index, cell in enumerate(self):
            s0, s1 = s1, cell(s0, s1, keeps[index], keys)
            if index == self.auxiliary_layer:
                auxiliary_input = s1
        return s1, auxiliary_input


class AuxiliaryPool(nn.Module):
    """5x5 average pool that leaves 2x2 at the sides the paper uses; other sides are pooled to 2x2 as well."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if all((side - 5) // self.stride + 1 == 2 for side in x.shape[-2:]):
            return F.avg_pool2d(x, 5, self.stride, count_include_pad=False)
        return F.adaptive_avg_pool2d(x, 2)


class AuxiliaryHead(nn.Module):
    """Classifier on the features after the second reduction.

    The ImageNet head has no second BatchNorm: the original left it out by a slip and kept it so for its numbers.
    """

    def __init__(self, in_channels: int, num_classes: int, pool_stride: int, second_norm: bool):
        super().__init__()
        self.num_features = 768
        self.features = nn.Sequential(
            # In place as in the original: in a network of 3 cells, whose last one feeds this head, the classifier then
            # sees the rectified features in training. In deeper ones the next cell rectifies them anyway.
            nn.ReLU(inplace=True),
            AuxiliaryPool(pool_stride),
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *([nn.BatchNorm2d(768)] if second_norm else []),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


@dataclass(frozen=True)
class Stem:
    """What precedes the cells, and the auxiliary head that fits the resolution it leaves.

    `build` maps init_channels to modules by name, in order: the first cell's inputs are the outputs of the first and
    of the last one.
    """

    build: Callable[[int], dict[str, nn.Sequential]]
    width: int
    """Channels it gives for each of init_channels."""
    reduces: bool
    """Whether its last module halves the resolution, as a reduction cell would."""
    auxiliary_stride: int
    auxiliary_second_norm: bool


def cifar_stem(init_channels: int) -> dict[str, nn.Sequential]:
    """Return one convolution at full resolution, 3 * init_channels wide."""
    width = 3 * init_channels
    return {"stem": nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))}


def imagenet_stem(init_channels: int) -> dict[str, nn.Sequential]:
    """Return two stems that divide the resolution by four and by eight."""
    width = init_channels
    first = nn.Sequential(
        nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )
    second = nn.Sequential(
        nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)
    )
    return {"stem0": first, "stem1": second}


STEMS = {
    "cifar": Stem(cifar_stem, width=3, reduces=False, auxiliary_stride=3, auxiliary_second_norm=True),
    "imagenet": Stem(imagenet_stem, width=1, reduces=True, auxiliary_stride=2, auxiliary_second_norm=False),
}
"""cifar for small images (32x32 and the like), imagenet for 224x224."""


class DerivedNetwork(nn.Module):
    """The network that stacks a derived cell.

    forward returns (logits, auxiliary logits): the latter is None in evaluation or without the head.

    Args:
        stem: a name in STEMS.
        init_channels: channels of the first cell; each reduction cell doubles them.
        auxiliary: add the second classifier.

    Attributes:
        drop_path_prob: 0 until set_drop_path.
        num_features: width of the pooled features that the classifier takes.
    """

    def __init__(
        self, stem: str, init_channels: int, num_classes: int, layers: int, auxiliary: bool, genotype: Genotype
    ):
        super().__init__()
        self.drop_path_prob: float | Tensor = 0.0
        kind = STEMS[stem]
        stems = kind.build(init_channels)
        self._stem_names = list(stems)
        for name, module in stems.items():
            self.add_module(name, module)
        width = kind.width * init_channels
        self.cells = CellStack(layers, init_channels, (width, width), genotype, reduction_prev=kind.reduces)
        head = AuxiliaryHead(
            self.cells.auxiliary_channels, num_classes, kind.auxiliary_stride, kind.auxiliary_second_norm
        )
        self.auxiliary_head = head if auxiliary else None
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.num_classes, self.num_features = num_classes, self.cells.out_channels
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Classify images (B, 3, H, W); keys (B,) make drop path and noise reproducible."""
        features, auxiliary_input = self._forward_cells(images, keys)
        auxiliary = self.auxiliary_head(auxiliary_input) if self.auxiliary_head is not None and self.training else None
        return self.forward_head(features), auxiliary

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, H', W') of images (B, 3, H, W)."""
        return self._forward_cells(images, None)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, classes) of a feature map, or its pooled features (B, C)."""
        pooled = self.global_pooling(features).flatten(1)
        return pooled if pre_logits else self.classifier(pooled)

    def _forward_cells(self, images: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        outputs = [images]
        for name in self._stem_names:
            outputs.append(self.get_submodule(name)(outputs[-1]))
        return self.cells(outputs[1], outputs[-1], self.drop_path_prob, keys)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh last layer in, also into the auxiliary head; 0 classes leave the pooled features."""
        self.num_classes = num_classes
        for head in (self, self.auxiliary_head):
            if head is not None:
                layer = nn.Linear(head.num_features, num_classes) if num_classes else nn.Identity()
                head.add_module("classifier", layer.to(next(self.parameters())))

    def set_drop_path(self, drop_path_prob: float) -> None:
        """Set the chance to drop a path. As a tensor, for a compiled network would be compiled anew for each number."""
        device = next(self.parameters()).device
        chance = torch.tensor(drop_path_prob, dtype=torch.float64, device=device)
        self.drop_path_prob = chance if drop_path_prob > 0 else 0.0
