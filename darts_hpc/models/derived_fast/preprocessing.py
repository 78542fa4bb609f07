"""The preprocessing of all cells that read one tensor."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from darts_hpc.models.derived_fast.cell import factorized_reduces
from darts_hpc.models.derived_fast.layers import Names, StackedLayers, corners_side_by_side
from darts_hpc.models.derived_fast.packing import Stack
from darts_hpc.space.operations import FactorizedReduce, ReLUConvBN

Input = tuple[int, int]
"""Cell, and which of its two previous states."""


class Preprocessing(nn.Module):
    """What cells compute of one tensor first: all 1x1 convolutions as one. Its weights are handed in.

    Args:
        readers: the module of each input that reads the tensor: ReLUConvBN or FactorizedReduce.
    """

    def __init__(self, readers: Mapping[Input, nn.Module], names: Names):
        super().__init__()
        convolutions = {key: module for key, module in readers.items() if isinstance(module, ReLUConvBN)}
        reduces = {key: module for key, module in readers.items() if isinstance(module, FactorizedReduce)}
        self._convolved, self._reduced = list(convolutions), list(reduces)
        self._channels = [_channels(module.op[-1]) for module in convolutions.values()]
        self._reduced_channels = [_channels(module.bn) for module in reduces.values()]
        self.convolve = self.reduce = None
        if convolutions:
            columns = list(zip(*(list(module.op)[1:] for module in convolutions.values()), strict=True))
            self.convolve = StackedLayers(columns, names, one_input=True)
        if reduces:
            self.reduce = factorized_reduces(list(reduces.values()), names)

    @property
    def stacks(self) -> list[Stack]:
        """The weights, in the order in which forward takes them."""
        return [stack for layers in (self.convolve, self.reduce) if layers is not None for stack in layers.stacks]

    def forward(self, rectified: Tensor, weights: Iterator[Tensor]) -> dict[Input, Tensor]:
        """Return the states of a tensor (B, C, H, W) after ReLU, by input; take the next weights."""
        states: dict[Input, Tensor] = {}
        if self.convolve is not None:
            states |= _split(self.convolve(rectified, weights), self._convolved, self._channels)
        if self.reduce is not None:
            corners = corners_side_by_side([rectified], [len(self._reduced)])
            states |= _split(self.reduce(corners, weights), self._reduced, self._reduced_channels)
        return states


def _split(x: Tensor, inputs: Sequence[Input], channels: list[int]) -> dict[Input, Tensor]:
    return dict(zip(inputs, x.split(channels, 1) if len(inputs) > 1 else [x], strict=True))


def _channels(norm: nn.Module) -> int:
    assert isinstance(norm, nn.BatchNorm2d)
    return norm.num_features
