"""What one edge of a cell computes: every candidate operation, mixed by weights (paper, equation 2)."""

from collections.abc import Iterable, Iterator
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.norm import batch_norm
from darts_hpc.models.supernet.narrow_norm import NarrowBatchNorm2d, Normalised, narrow_batch_norms, normalise
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.operations import OPERATIONS, DilatedConv, FactorizedReduce, Noise, SeparableConv, Zero
from darts_hpc.space.phases import can_split, even_pixels, merge_phases, odd_pixels, split_phases


class State:
    """A state x (B, C, H, W) of a cell, and what the candidates on its out-edges share, computed once.

    Args:
        keys: of its images (B,), for noise.
        partial_channels: K; its edges' candidates take the first C / K channels only (PC-DARTS).
    """

    def __init__(self, x: Tensor, keys: Tensor | None = None, partial_channels: int = 1):
        self.x, self.keys, self.partial_channels = x, keys, partial_channels
        self._bypass: dict[int, Tensor] = {}
        self._pools: dict[tuple[str, int], Tensor] = {}
        self._normalised: dict[tuple[str, int], Normalised] = {}

    @cached_property
    def rectified(self) -> Tensor:
        """Its ReLU, which every convolution starts with."""
        return F.relu(self.x)

    @cached_property
    def phases(self) -> Tensor:
        """Its ReLU's four phases, for the dilated convolutions of stride 1."""
        return split_phases(self.rectified)

    @cached_property
    def even_pixels(self) -> Tensor:
        """Its ReLU's even rows and columns, for the dilated convolutions and the skips of stride 2."""
        return even_pixels(self.rectified)

    @cached_property
    def odd_pixels(self) -> Tensor:
        """Its ReLU's odd rows and columns, for the skips of stride 2."""
        return odd_pixels(self.rectified)

    @property
    def computed(self) -> "State":
        """The part of it that candidates compute on."""
        # Not cached: a state that holds itself is a reference cycle, whose tensors wait for the garbage collector.
        return self if self.partial_channels == 1 else self._part

    @cached_property
    def _part(self) -> "State":
        return State(self._split[0], self.keys)

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        """What candidates compute on, and the rest, each dense: every edge reads them, forward and backward."""
        channels, computed = self.x.shape[1], self.x.shape[1] // self.partial_channels
        part, rest = self.x.split([computed, channels - computed], dim=1)
        dense = torch.channels_last
        return part.contiguous(memory_format=dense), rest.contiguous(memory_format=dense)

    def bypass(self, stride: int) -> Tensor:
        """The channels that bypass the candidates, at stride 2 through a 2x2 max pool."""
        if stride not in self._bypass:
            rest = self._split[1]
            self._bypass[stride] = rest if stride == 1 else F.max_pool2d(rest, 2, stride, ceil_mode=True)
        return self._bypass[stride]

    def pooled(self, pool: nn.MaxPool2d | nn.AvgPool2d) -> Tensor:
        """The pooled state, shared by all edges of a stride."""
        key = kind_of_pool(pool)
        if key not in self._pools:
            self._pools[key] = pool(self.x)
        return self._pools[key]

    def normalised(self, pool: nn.MaxPool2d | nn.AvgPool2d, norm: NarrowBatchNorm2d) -> Tensor:
        """The pooled state normalised by its batch, once for all edges of a stride, each of which has a norm."""
        key = kind_of_pool(pool)
        if key not in self._normalised:
            self._normalised[key] = normalise(self.pooled(pool), norm.eps)
        return norm.count(self._normalised[key])


class NodeSum:
    """The sum of what a node's edges add.

    Terms in phases are merged once, at the end, and bypassed channels are shuffled in once: both are linear.
    """

    def __init__(self, partial_channels: int = 1):
        self.partial_channels = partial_channels
        self._terms: list[Tensor] = []
        self._phases: list[Tensor] = []
        self._bypassed: list[Tensor] = []
        self._whole: list[Tensor] = []

    def add(self, term: Tensor, in_phases: bool = False) -> None:
        """Add a candidate's output, of the channels that it computes on."""
        (self._phases if in_phases else self._terms).append(term)

    def add_bypassed(self, term: Tensor) -> None:
        """Add the channels that bypassed the candidates."""
        self._bypassed.append(term)

    def add_whole(self, term: Tensor) -> None:
        """Add a term of all channels, in the node's order."""
        self._whole.append(term)

    def complete(self, op: "MixedOp", state: State) -> None:
        """Add zeros in the shape of an edge's output where no candidate has added anything."""
        if not self._terms and not self._phases:
            self.add(Zero(op.stride)(state.computed.x))

    def total(self) -> Tensor:
        """Return the sum (B, C, H, W)."""
        if self._phases:
            self._terms.append(merge_phases(_total(self._phases)))
        if self._bypassed:
            computed = torch.cat([_total(self._terms), _total(self._bypassed)], dim=1)
            self._terms = [shuffle_channels(computed, self.partial_channels)]
        return _total(self._terms + self._whole)


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Return x (B, C, H, W) with channel g * (C / groups) + i moved to i * groups + g: groups interleaved."""
    return x.permute(0, 2, 3, 1).unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


def _total(terms: list[Tensor]) -> Tensor:
    total = sum(terms[1:2], terms[0])
    for term in terms[2:]:
        total += term  # in place: what was just made is still in the cache
    return total


def kind_of_pool(pool: nn.MaxPool2d | nn.AvgPool2d) -> tuple[str, int]:
    """Return what pools have to have in common to be computed once per state."""
    return type(pool).__name__, int(pool.stride)  # pyright: ignore[reportArgumentType]


class MixedOp(nn.Module):
    """All candidate operations of one edge, weighted.

    Args:
        channels: C of the states.
        primitives: its O candidates.
        partial_channels: K; candidates compute on C / K channels, and the others bypass them.
        auxiliary_skip: whether to add a skip connection besides the candidates (DARTS-).
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        primitives: tuple[str, ...],
        partial_channels: int = 1,
        auxiliary_skip: bool = False,
    ):
        super().__init__()
        self.stride, self.partial_channels = stride, partial_channels
        self._ops = nn.ModuleList(_candidate(name, channels // partial_channels, stride) for name in primitives)
        self._contributing = [column for column, name in enumerate(primitives) if name != "none"]
        self.auxiliary_op = OPERATIONS["skip_connect"](channels, stride, False) if auxiliary_skip else None
        if partial_channels > 1:
            narrow_batch_norms(self._ops)
        # DARTS' own edges add up as they always have, to the last bit
        self._shares_pixels = partial_channels > 1 or primitives != PRIMITIVES

    def forward(self, state: State, weights: Tensor, node: NodeSum, columns: Iterable[int] | None = None) -> None:
        """Add a state's candidates, weighted by weights (O,), to a node. 'none' has a weight but nothing to add.

        `columns`: the candidates that run; None for all.
        """
        mixing_weights = weights.unbind()
        for column, candidate in self.contributing(columns):
            add_scaled(node, candidate, state.computed, mixing_weights[column], self._shares_pixels)

    def contributing(self, columns: Iterable[int] | None = None) -> Iterator[tuple[int, nn.Module]]:
        """Yield (column, candidate) of those candidates, of all or of some columns, that add something."""
        for column in self._contributing if columns is None else columns:
            if column in self._contributing:
                yield column, self._ops[column]

    def add_beside(self, state: State, edge_weight: Tensor | None, share: Tensor | None, node: NodeSum) -> None:
        """Add what is no candidate: the bypassed channels, and `share` (0-d) of the auxiliary skip.

        Both are weighted by edge_weight (0-d), 1 where it is None.
        """
        if self.partial_channels > 1:
            bypass = state.bypass(self.stride)
            node.add_bypassed(bypass if edge_weight is None else edge_weight * bypass)
        if self.auxiliary_op is not None and share is not None:
            auxiliary, share = NodeSum(), share.to(state.x.dtype)
            weight = share if edge_weight is None else edge_weight * share
            add_scaled(auxiliary, self.auxiliary_op, state, weight, shares_pixels=True)
            node.add_whole(auxiliary.total())


def add_scaled(node: NodeSum, candidate: nn.Module, state: State, weight: Tensor, shares_pixels: bool) -> None:
    """Add weight * candidate(state) to a node.

    The weight is the scale of the candidate's last BatchNorm, where it has one: this saves a pass over memory, and
    BatchNorm's backward yields the weight's gradient.
    """
    match candidate:
        case nn.Sequential() if isinstance(pool := candidate[0], nn.MaxPool2d | nn.AvgPool2d):
            norm = candidate[1]
            if type(norm) is NarrowBatchNorm2d and norm.in_rows(state.x):
                node.add(weight * state.normalised(pool, norm))
            else:
                node.add(_normalised(norm, state.pooled(pool), weight))
        case DilatedConv() if candidate.phases_pay(state.x) and candidate.stride == 2:
            node.add(_normalised(candidate.op[-1], candidate.pre_norm_phases(state.even_pixels), weight))
        case DilatedConv() if candidate.phases_pay(state.x) and can_split(state.x, candidate.kernel_size):
            phases = candidate.pre_norm_phases(state.phases)
            node.add(_normalised(candidate.op[-1], phases, weight), in_phases=True)
        case SeparableConv() | DilatedConv():
            node.add(_normalised(candidate.op[-1], candidate.pre_norm(state.rectified), weight))
        case FactorizedReduce() if shares_pixels and candidate.has_plain_convolutions():
            pixels = candidate.pre_norm_pixels(state.even_pixels, state.odd_pixels)
            node.add(_normalised(candidate.bn, pixels, weight))
        case FactorizedReduce():
            node.add(_normalised(candidate.bn, candidate.pre_norm(state.rectified), weight))
        case Noise():
            node.add(weight * candidate(state.x, state.keys))
        case _:
            node.add(weight * candidate(state.x))


def _normalised(norm: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    scale = weight.expand(x.shape[1])
    return norm(x, scale) if type(norm) is NarrowBatchNorm2d else batch_norm(norm, x, scale)


def _candidate(name: str, channels: int, stride: int) -> nn.Module:
    operation = OPERATIONS[name](channels, stride, False)
    # No candidate has learnt scales, which would compete with alpha; pools get the BatchNorm the others end with.
    return nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else operation
