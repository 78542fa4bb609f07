"""Like layers of several edges or cells as one operation over their stacked channels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.derived_fast.packing import Stack
from darts_hpc.models.norm import batch_norm
from darts_hpc.space.phases import can_split, depthwise, even_pixels, merge_phases, phases_pay, split_phases

Names = Mapping[nn.Module, str]
"""Module of the plain network -> its name."""


class Convolution(NamedTuple):
    """The arguments of F.conv2d that follow weight and bias."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class StackedLayers(nn.Module):
    """Several like sequences of convolutions, BatchNorms and ReLUs as one sequence over (B, k * C, H, W).

    It owns BatchNorm's statistics; its weights are handed in.

    Args:
        columns: for each position of the sequence, the modules that stand there, one or more for each of k sequences.
        names: of these modules in the plain network.
        one_input: all k sequences read the same (B, C, H, W).
        reads_corners: they are factorized reductions, which read corners_side_by_side.

    Attributes:
        stacks: the weights, in the order in which forward takes them.
        norm_names: for each of `norms`, the name and the channels of each BatchNorm in it.
    """

    def __init__(
        self,
        columns: Sequence[Sequence[nn.Module]],
        names: Names,
        *,
        one_input: bool = False,
        reads_corners: bool = False,
    ):
        super().__init__()
        self.reads_corners = reads_corners
        self.norms = nn.ModuleList()
        self.stacks: list[Stack] = []
        self.norm_names: list[list[tuple[str, int]]] = []
        self._steps: list[Convolution | int | None] = []  # a BatchNorm is its number, a ReLU is None
        for position, column in enumerate(columns):
            first = column[0]
            if isinstance(first, nn.Conv2d):
                convolutions = [module for module in column if isinstance(module, nn.Conv2d)]
                groups = first.groups if one_input and position == 0 else sum(conv.groups for conv in convolutions)
                stride = (1, 1) if reads_corners else first.stride
                padding, dilation = first.padding, first.dilation
                assert not isinstance(padding, str)
                self._steps.append(Convolution(stride, padding, dilation, groups))
                self.stacks.append(stack_of("weight", convolutions, names))
            elif isinstance(first, nn.BatchNorm2d):
                self._steps.append(len(self.norms))
                norms = [module for module in column if isinstance(module, nn.BatchNorm2d)]
                self.stacks += [stack_of(name, norms, names) for name in ("weight", "bias")]
                self.norm_names.append([(names[norm], norm.num_features) for norm in norms])
                self.norms.append(_joined(norms))
            else:
                assert isinstance(first, nn.ReLU), first
                self._steps.append(None)
        self._kernel_size = self.stacks[0].shape[-1]

    def forward(self, x: Tensor, weights: Iterator[Tensor]) -> Tensor:
        """Return (B, k * C', H', W') for (B, k * C, H, W), or (B, C, H, W) with one_input; take the next weights."""
        first = self._steps[0]
        if isinstance(first, Convolution) and first.dilation == (2, 2) and phases_pay(x):
            if first.stride == (2, 2):
                return self._run(even_pixels(x), weights, in_phases=True)
            if can_split(x, self._kernel_size):
                return merge_phases(self._run(split_phases(x), weights, in_phases=True))
        return self._run(x, weights)

    def _run(self, x: Tensor, weights: Iterator[Tensor], in_phases: bool = False) -> Tensor:
        for step in self._steps:
            if step is None:
                x = F.relu(x, inplace=True)  # of a BatchNorm's output, which nothing else reads
            elif isinstance(step, int):
                x = batch_norm(self.norms[step], x, next(weights), next(weights))
            elif in_phases and step.dilation == (2, 2):
                x = depthwise(x, next(weights))
            else:
                x = F.conv2d(x, next(weights), None, *step)
        return x


def stack_of(parameter: str, modules: Sequence[nn.Module], names: Names) -> Stack:
    """Return the stack of a parameter of the modules."""
    tensors: list[Tensor] = [getattr(module, parameter) for module in modules]
    return Stack(
        tuple(f"{names[module]}.{parameter}" for module in modules),
        tuple(tensor.shape for tensor in tensors),
        is_kernel=not isinstance(modules[0], nn.BatchNorm2d),
    )


def _joined(norms: Sequence[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    first, channels = norms[0], sum(norm.num_features for norm in norms)
    where = {"device": first.weight.device, "dtype": first.weight.dtype}
    joined = nn.BatchNorm2d(channels, first.eps, first.momentum, affine=False, **where)
    joined.num_batches_tracked = None  # the network counts for all of them at once
    return joined


def side_by_side(states: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return states (B, C, H, W), each as often as its count says, as (B, k * C, H, W), channels last."""
    if len(states) == 1 and counts[0] == 1:
        return states[0]
    pixels = [state.permute(0, 2, 3, 1) for state in states]
    return _joined_pixels([pixel[:, :, :, None] for pixel in pixels], counts)


def corners_side_by_side(states: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return what k factorized reductions read, (B, k * 2 * C, H / 2, W / 2), sides rounded up, channels last.

    Of each 2x2 pixels of a state, the first half of a reduction's outputs reads the first one, and the second half the
    last one. A state comes as often as its count says; an odd side is padded by one at its end.
    """
    corners = []
    for state in states:
        height, width = state.shape[-2:]
        if height % 2 or width % 2:
            state = F.pad(state, (0, width % 2, 0, height % 2))
        pixels = state.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H / 2, 2, W / 2, 2, C)
        corners.append(pixels.diagonal(dim1=2, dim2=4).transpose(3, 4))  # (B, H / 2, W / 2, 2, C)
    return _joined_pixels(corners, counts)


def _joined_pixels(pixels: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return (B, k * n * C, H, W) of parts (B, H, W, n, C). Repeated by expand, whose backward is one sum."""
    parts = [
        part[:, :, :, None].expand(*part.shape[:3], count, *part.shape[3:])
        for part, count in zip(pixels, counts, strict=True)
    ]
    joined = torch.cat(parts, 3) if len(parts) > 1 else parts[0]
    return joined.flatten(3).permute(0, 3, 1, 2)
