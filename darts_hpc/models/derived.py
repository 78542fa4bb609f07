"""The network of a derived cell, for CIFAR or for ImageNet (original model.py, with its submodule names)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.drop_path import drop_path_chance, drop_path_factors
from darts_hpc.models.layout import place_cells, reduction_layers
from darts_hpc.models.recompute import recompute
from darts_hpc.models.stems import STEMS
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.operations import OPERATIONS, FactorizedReduce, Noise, ReLUConvBN, place_noise
from darts_hpc.space.recording import is_scripting


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
        self.first_path = 0

    def forward(self, s0: Tensor, s1: Tensor, keep: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """Return the concatenated nodes.

        Args:
            keep: drop path's factors (P, B, 1, 1, 1); this cell's droppable edges have those from first_path on.
            keys: of the images (B,), by which noise is drawn.
        """
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        path, node = self.first_path, states[0]
        for index, op in enumerate(self._ops):
            state = states[self.inputs[index]]
            if keys is not None and not is_scripting():
                end = op(state, keys) if isinstance(op, Noise) else op(state)
            else:
                end = op(state)
            if keep is not None and self.droppable[index]:
                end = end * keep[path]
                path += 1
            if index % 2 == 0:
                node = end
            else:
                states.append(node + end)
        return torch.cat([states[number] for number in self.concat], dim=1)


class CellStack(nn.ModuleList):
    """The cells in order. In a network this module is named `cells`, as in the original.

    Attributes:
        num_paths: how many edges drop path may drop.
        channels: of each cell's output.
        checkpoint_cells: keep only the cells' inputs for backward, and compute the rest once more.
    """

    def __init__(
        self, layers: int, init_channels: int, stem_channels: tuple[int, int], genotype: Genotype, reduction_prev: bool
    ):
        multipliers = (len(genotype.normal_concat), len(genotype.reduce_concat))
        places = list(place_cells(layers, init_channels, stem_channels, multipliers, reduction_prev))
        cells = [Cell(*place, genotype) for place in places]
        super().__init__(cells)
        place_noise(self)
        self.checkpoint_cells = False
        self.num_paths = 0
        for cell in cells:
            cell.first_path = self.num_paths
            self.num_paths += sum(cell.droppable)
        self.reductions = reduction_layers(layers)
        self.channels = [multipliers[place.reduction] * place.channels for place in places]

    def forward(
        self, s0: Tensor, s1: Tensor, wanted: list[int], keep: Tensor | None = None, keys: Tensor | None = None
    ) -> list[Tensor]:
        """Return the outputs of the wanted cells, in order, for the first cell's inputs."""
        outputs: list[Tensor] = []
        for index, cell in enumerate(self):
            if self.checkpoint_cells and not is_scripting():
                s0, s1 = s1, recompute(cell, s0, s1, keep, keys)
            else:
                s0, s1 = s1, cell(s0, s1, keep, keys)
            if index in wanted:
                outputs.append(s1)
        return outputs


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

    Args:
        shares_input: the classifier reads the same features.
    """

    def __init__(self, in_channels: int, num_classes: int, pool_stride: int, second_norm: bool, shares_input: bool):
        super().__init__()
        self.num_features = 768
        self.features = nn.Sequential(
            # In place as in the original: in a network of 3 cells, whose last one feeds this head, the classifier then
            # sees the rectified features in training. In deeper ones the next cell rectifies them anyway, and reads
            # them once more in backward where cells are recomputed.
            nn.ReLU(inplace=shares_input),
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


class DerivedNetwork(nn.Module):
    """The network that stacks a derived cell.

    forward returns (logits, auxiliary logits): the latter is None in evaluation or without the head.

    Args:
        stem: a name in STEMS.
        init_channels: channels of the first cell; each reduction cell doubles them.
        auxiliary: add the second classifier.
        in_channels: channels of the images.

    Attributes:
        drop_path_prob: 0 until set_drop_path.
        num_features: width of the pooled features that the classifier takes.
    """

    if TYPE_CHECKING:  # torch.jit would take them for types of its own
        stem: nn.Sequential
        stem0: nn.Sequential
        stem1: nn.Sequential

    def __init__(
        self,
        stem: str,
        init_channels: int,
        num_classes: int,
        layers: int,
        auxiliary: bool,
        genotype: Genotype,
        in_channels: int = 3,
    ):
        super().__init__()
        self.drop_path_prob: float | Tensor = 0.0
        kind = STEMS[stem]
        width = kind.width * init_channels
        for name, module in kind.build(width, in_channels).items():
            self.add_module(name, module)
        self.cells = CellStack(layers, init_channels, (width, width), genotype, reduction_prev=kind.reduces)
        feeds_head = self.cells.reductions[1]
        head = AuxiliaryHead(
            self.cells.channels[feeds_head],
            num_classes,
            kind.auxiliary_stride,
            kind.auxiliary_second_norm,
            shares_input=feeds_head == layers - 1,
        )
        self.wanted_cells = [feeds_head, layers - 1]
        self.auxiliary_head = head if auxiliary else None
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.num_classes, self.num_features = num_classes, self.cells.channels[-1]
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Classify images (B, 3, H, W); keys (B,) make drop path and noise reproducible."""
        s0, s1 = self.forward_stem(images)
        keep, chance = None, self.drop_path_prob
        if self.training and (isinstance(chance, Tensor) or chance > 0):
            keep = drop_path_factors(keys, len(images), self.cells.num_paths, chance, s0)
        outputs = self.cells(s0, s1, self.wanted_cells, keep, keys)
        auxiliary = self.auxiliary_head(outputs[0]) if self.auxiliary_head is not None and self.training else None
        return self.classifier(self.global_pool(outputs[-1]).flatten(1)), auxiliary

    def forward_stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first cell's inputs."""
        if hasattr(self, "stem1"):
            first = self.stem0(images)
            return first, self.stem1(first)
        else:  # torch.jit compiles what follows a return, and there is no self.stem
            only = self.stem(images)
            return only, only

    def set_drop_path(self, drop_path_prob: float) -> None:
        """Set the chance to drop a path, on the device; a network that dropped none so far has no operations for it."""
        self.drop_path_prob = drop_path_chance(self.drop_path_prob, drop_path_prob, next(self.parameters()).device)

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Return the weights by name."""
        return dict(self.named_parameters())

    def original_layout(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one tensor per weight, such as its momentum, by the original's names, which are ours."""
        return dict(weights)
