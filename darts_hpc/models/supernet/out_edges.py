"""The out-edges of a state of few channels, computed together: candidates of a kind are one operation over all of them.

On a CPU a convolution of 4 channels takes as long as one of 16, and every call costs something of its own. Here the
channels of g candidates stand side by side: (B, g * C, H, W). The same function; sums are in another order.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.supernet.edges import MixedOp, NodeSum, State, add_scaled, kind_of_pool
from darts_hpc.models.supernet.narrow_norm import NarrowBatchNorm2d, normalise_apart
from darts_hpc.space.operations import DilatedConv, FactorizedReduce, SeparableConv
from darts_hpc.space.phases import can_split, depthwise, device_type, is_plain

MOST_CHANNELS = 16
"""Of an edge: with more, torch's operations are busy anyway, and the zeros between edges cost more than they save."""


class Candidate(NamedTuple):
    """A candidate of one edge, and its mixing weight (0-d)."""

    edge: int
    module: nn.Module
    weight: Tensor


def can_run_together(state: State, edges: Sequence[MixedOp]) -> bool:
    """Return whether run_out_edges serves these edges of a state."""
    few = state.partial_channels > 1 and state.x.shape[1] <= MOST_CHANNELS * state.partial_channels
    if not edges or not few or device_type(state.x) != "cpu" or not torch.is_grad_enabled():
        return False
    norms = (module for op in edges for module in op.modules() if isinstance(module, nn.modules.batchnorm._NormBase))
    return all(type(norm) is NarrowBatchNorm2d and norm.in_rows(state.x) for norm in norms)


def run_out_edges(state: State, edges: Sequence[MixedOp], weights: Sequence[Tensor], nodes: Sequence[NodeSum]) -> None:
    """Add the candidates of all out-edges of a state, weighted by weights (O,) of each, to each edge's node."""
    of_kind: defaultdict[Kind, list[Candidate]] = defaultdict(list)
    for edge, (op, row) in enumerate(zip(edges, weights, strict=True)):
        for column, module in op.contributing():
            of_kind[_kind(module)].append(Candidate(edge, module, row[column]))
    state, width = state.computed, state.computed.x.shape[1]
    wide = {count: WideState(state, count) for count in set(map(len, of_kind.values()))}
    totals: defaultdict[tuple[int, ...], NodeSum] = defaultdict(NodeSum)
    for (add, _), candidates in of_kind.items():
        group = tuple(candidate.edge for candidate in candidates)
        if add is _add_shared:
            group = tuple(dict.fromkeys(group))
        if add is None or len(group) == 1:
            for edge, module, weight in candidates:
                add_scaled(nodes[edge], module, state, weight, shares_pixels=True)
        else:
            add(candidates, wide[len(candidates)], totals[group])
    for group, total in totals.items():
        for edge, part in zip(group, total.total().split(width, 1), strict=True):
            nodes[edge].add(part)


class WideState:
    """A state (B, C, H, W), and what is computed of it with its channels side by side `times` times."""

    def __init__(self, state: State, times: int):
        self.state, self._times = state, times

    @cached_property
    def rectified(self) -> Tensor:
        """The state's ReLU (B, times * C, H, W)."""
        return self._widen(self.state.rectified)

    @cached_property
    def phases(self) -> Tensor:
        """Its phases (4 * B, times * C, H / 2, W / 2)."""
        return self._widen(self.state.phases)

    @cached_property
    def even_pixels(self) -> Tensor:
        """Its even pixels (B, times * C, ceil(H / 2), ceil(W / 2))."""
        return self._widen(self.state.even_pixels)

    def _widen(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1).unsqueeze(3).expand(-1, -1, -1, self._times, -1)
        return pixels.flatten(3).permute(0, 3, 1, 2)  # channels last


Kind = tuple[Callable[[list[Candidate], WideState, NodeSum], None] | None, int]
"""What adds candidates of this kind to a sum, None for each on its own; and their kernel size."""


def _kind(module: nn.Module) -> Kind:
    match module:
        case nn.Identity() if is_plain(module, nn.Identity):
            return _add_shared, 1
        case nn.Sequential() if _is_normalised_pool(module):
            return _add_shared, 1
        case SeparableConv() if type(module) is SeparableConv and _has_plain_convolutions(module.op):
            return _add_separable, _convolution(module.op, 1).kernel_size[0]
        case DilatedConv() if type(module) is DilatedConv and _has_plain_convolutions(module.op):
            return _add_dilated, module.kernel_size
        case FactorizedReduce() if type(module) is FactorizedReduce and module.has_plain_convolutions():
            return _add_reduced, 1
        case _:
            return None, 0


def _is_normalised_pool(module: nn.Sequential) -> bool:
    is_pool = isinstance(module[0], nn.MaxPool2d | nn.AvgPool2d)
    return is_pool and len(module) == 2 and type(module[1]) is NarrowBatchNorm2d


def _add_shared(candidates: list[Candidate], wide: WideState, total: NodeSum) -> None:
    """Add skips and normalised pools, which edges share: one matrix of mixing weights, edges x what they share."""
    state = wide.state
    shared: dict[tuple[str, int], Tensor] = {}
    weights: dict[tuple[int, tuple[str, int]], Tensor] = {}
    for edge, module, weight in candidates:
        name, x = _shared(module, state)
        shared[name] = x
        weights[edge, name] = weights[edge, name] + weight if (edge, name) in weights else weight
    edges, none = dict.fromkeys(candidate.edge for candidate in candidates), candidates[0].weight.new_zeros(())
    mixing = torch.stack([weights.get((edge, name), none) for edge in edges for name in shared])
    each_channel = torch.eye(state.x.shape[1], dtype=mixing.dtype, device=mixing.device)
    kernel = torch.kron(mixing.view(len(edges), len(shared)), each_channel)
    total.add(F.conv2d(torch.cat(list(shared.values()), 1), kernel[:, :, None, None]))


def _shared(module: nn.Module, state: State) -> tuple[tuple[str, int], Tensor]:
    if isinstance(module, nn.Identity):
        return ("skip", 1), state.x
    assert isinstance(module, nn.Sequential)
    pool, norm = module
    assert isinstance(pool, nn.MaxPool2d | nn.AvgPool2d) and isinstance(norm, NarrowBatchNorm2d)
    return kind_of_pool(pool), state.normalised(pool, norm)


def _add_separable(candidates: list[Candidate], wide: WideState, total: NodeSum) -> None:
    ops = _sequences(candidates)
    half = normalise_apart(_norms(ops, 3), _pointwise(ops, 2, _depthwise(ops, 1, wide.rectified)))
    whole = _pointwise(ops, 6, _depthwise(ops, 5, half.relu_()))
    total.add(normalise_apart(_norms(ops, 7), whole, _scale(candidates, wide)))


def _add_dilated(candidates: list[Candidate], wide: WideState, total: NodeSum) -> None:
    ops = _sequences(candidates)
    first = _convolution(ops[0], 1)
    in_phases = first.stride[0] == 1 and can_split(wide.state.x, first.kernel_size[0])
    if in_phases or first.stride[0] == 2:
        filtered = depthwise(wide.phases if in_phases else wide.even_pixels, _stacked(ops, 1))
    else:
        filtered = _depthwise(ops, 1, wide.rectified)
    total.add(normalise_apart(_norms(ops, 3), _pointwise(ops, 2, filtered), _scale(candidates, wide)), in_phases)


def _add_reduced(candidates: list[Candidate], wide: WideState, total: NodeSum) -> None:
    skips = [c.module for c in candidates if isinstance(c.module, FactorizedReduce)]
    halves = [torch.block_diag(skip.conv_1.weight.flatten(1), skip.conv_2.weight.flatten(1)) for skip in skips]
    pixels = torch.cat([wide.state.even_pixels, wide.state.odd_pixels], 1)
    norms = [skip.bn for skip in skips if isinstance(skip.bn, NarrowBatchNorm2d)]
    out = F.conv2d(pixels, torch.cat(halves)[:, :, None, None])
    total.add(normalise_apart(norms, out, _scale(candidates, wide)))


def _sequences(candidates: list[Candidate]) -> list[nn.Sequential]:
    return [c.module.op for c in candidates if isinstance(c.module, SeparableConv | DilatedConv)]


def _has_plain_convolutions(op: nn.Sequential) -> bool:
    return all(is_plain(part) for part in op if not isinstance(part, nn.ReLU | NarrowBatchNorm2d))


def _convolution(op: nn.Sequential, place: int) -> nn.Conv2d:
    convolution = op[place]
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _norms(ops: list[nn.Sequential], place: int) -> list[NarrowBatchNorm2d]:
    return [norm for op in ops if isinstance(norm := op[place], NarrowBatchNorm2d)]


def _stacked(ops: list[nn.Sequential], place: int) -> Tensor:
    return torch.cat([_convolution(op, place).weight for op in ops])


def _depthwise(ops: list[nn.Sequential], place: int, x: Tensor) -> Tensor:
    """Convolve x (B, g * C, H, W) by the depthwise convolutions at a place of g candidates."""
    first, weight = _convolution(ops[0], place), _stacked(ops, place)
    return F.conv2d(x, weight, None, first.stride, first.padding, first.dilation, len(weight))


def _pointwise(ops: list[nn.Sequential], place: int, x: Tensor) -> Tensor:
    """Convolve x (B, g * C, H, W) by the pointwise convolutions at a place of g candidates: a block-diagonal matrix."""
    kernel = torch.block_diag(*(_convolution(op, place).weight.flatten(1) for op in ops))
    return F.conv2d(x, kernel[:, :, None, None])


def _scale(candidates: list[Candidate], wide: WideState) -> Tensor:
    """Return the mixing weight of each channel (g * C,)."""
    return torch.stack([c.weight for c in candidates])[:, None].expand(-1, wide.state.x.shape[1]).flatten()
