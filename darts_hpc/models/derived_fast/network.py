"""The derived network with few, large tensor operations: the same function as derived.py, by name the same weights.

All weights are one vector. A tensor is rectified once, all 1x1 convolutions that preprocess it for two cells are one,
edges of a cell with the same operation are one operation over stacked channels, and a state is pooled once.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.derived import AuxiliaryHead, Cell, DerivedNetwork
from darts_hpc.models.derived_fast.cell import FastCell, can_group
from darts_hpc.models.derived_fast.layers import StackedLayers, stack_of
from darts_hpc.models.derived_fast.packing import Packing, Stack
from darts_hpc.models.derived_fast.preprocessing import Input, Preprocessing
from darts_hpc.models.drop_path import drop_path_chance, drop_path_factors
from darts_hpc.models.recompute import recompute
from darts_hpc.models.state_dicts import compare_keys, copy_into
from darts_hpc.space.operations import Noise, Zero
from darts_hpc.space.phases import device_type


class FastDerivedNetwork(nn.Module):
    """The network of a derived cell with all weights in one vector, for training.

    Its state dict is that of `plain`, with whose weights it starts: either loads the other's. It computes channels
    last, recomputes cells where `plain` does, and takes and returns what DerivedNetwork does.

    Args:
        plain: the network of modules; left as it is.
        stack_edges: compute edges of a cell with the same operation as one. Left out, not on a CPU, whose libraries are
            slower at the grouped convolutions that it makes.

    Raises ValueError where why_not_fast has a reason.

    Attributes:
        cells: the modules that do nearly all of the work.
        flat_weights: all weights.
        drop_path_prob: 0 until set_drop_path.
    """

    num_batches_tracked: Tensor

    def __init__(self, plain: DerivedNetwork, *, stack_edges: bool | None = None):
        super().__init__()
        if reason := why_not_fast(plain):
            raise ValueError(f"the fast network {reason}; use the plain one")
        names: dict[nn.Module, str] = {module: name for name, module in plain.named_modules()}
        if stack_edges is None:
            stack_edges = device_type(plain.classifier.weight) != "cpu"
        self._names, self._weight_names = list(plain.state_dict()), [name for name, _ in plain.named_parameters()]
        self.drop_path_prob: float | Tensor = 0.0
        self.num_paths, self.auxiliary_cell = plain.cells.num_paths, plain.wanted_cells[0]
        self.checkpoint_cells = plain.cells.checkpoint_cells

        stems = [list(getattr(plain, name)) for name in ("stem", "stem0", "stem1") if hasattr(plain, name)]
        self.stems = nn.ModuleList(  # the second one begins with a ReLU, which its input's readers share
            StackedLayers([[layer] for layer in stem[number:]], names) for number, stem in enumerate(stems)
        )
        cells = [cell for cell in plain.cells if isinstance(cell, Cell)]
        readers: list[dict[Input, nn.Module]] = [{} for _ in (*stems, *cells)]  # of each tensor: stems, then cells
        for index, cell in enumerate(cells):
            last = index + len(stems) - 1
            readers[max(0, last - 1)][index, 0] = cell.preprocess0
            readers[last][index, 1] = cell.preprocess1
        self.preprocessing = nn.ModuleList(Preprocessing(own, names) for own in readers)
        self.cells = nn.ModuleList(FastCell(cell, names, stack_edges) for cell in cells)
        self.auxiliary = _Auxiliary(plain.auxiliary_head, names) if plain.auxiliary_head is not None else None
        self._classifier = [stack_of(name, [plain.classifier], names) for name in ("weight", "bias")]

        self._packing = Packing(list(self._stacks()))
        like = plain.classifier.weight
        self.flat_weights = nn.Parameter(torch.zeros(self._packing.size, dtype=like.dtype, device=like.device))
        self._norm_names = [name for layers in self._layers() for norm in layers.norm_names for name, _ in norm]
        counts = torch.zeros(len(self._norm_names), dtype=torch.int64, device=like.device)
        self.register_buffer("num_batches_tracked", counts)
        copy_into(self.state_dict(), plain.state_dict())

    def forward(self, images: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Classify images (B, 3, H, W); keys (B,) make drop path and noise reproducible."""
        dtype = _number_format(images, self.flat_weights)
        weights = iter(self._packing.unpack(self.flat_weights, dtype))
        if self.training:
            self.num_batches_tracked += 1
        states: dict[Input, Tensor] = {}
        x = rectified = images.to(dtype, memory_format=torch.channels_last)
        for number, stem in enumerate(self.stems):
            x = stem(rectified, weights)
            rectified = F.relu(x)
            states |= self.preprocessing[number](rectified, weights)
        keep, chance = None, self.drop_path_prob
        if self.training and (isinstance(chance, Tensor) or chance > 0):
            keep = drop_path_factors(keys, len(images), self.num_paths, chance, x).unbind()
        features = rectified
        for index, cell in enumerate(self.cells):
            own = islice(weights, len(cell.stacks))  # pyright: ignore[reportArgumentType]
            inputs = states.pop((index, 0)), states.pop((index, 1)), keep, keys, *own
            x = recompute(cell, *inputs) if self.checkpoint_cells else cell(*inputs)
            del inputs
            is_last, feeds_head = index == len(self.cells) - 1, index == self.auxiliary_cell
            if not is_last or (feeds_head and self.auxiliary is not None and self.training):
                rectified = F.relu(x)
                states |= self.preprocessing[len(self.stems) + index](rectified, weights)
                # as in the plain network, whose head rectifies in place: the classifier then sees it in training
                x = rectified if is_last else x
            features = rectified if feeds_head else features
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        logits = F.linear(pooled, next(weights), next(weights))
        if self.auxiliary is None or not self.training:
            return logits, None
        return logits, self.auxiliary(features, weights)

    def set_drop_path(self, drop_path_prob: float) -> None:
        """Set the chance to drop a path, on the device; a network that dropped none so far has no operations for it."""
        self.drop_path_prob = drop_path_chance(self.drop_path_prob, drop_path_prob, self.flat_weights.device)

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Return the weights by name: one vector."""
        return {"flat_weights": self.flat_weights}

    def original_layout(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views by the plain network's names of one tensor per weight by our name, such as its momentum."""
        named = self._packing.by_name(weights["flat_weights"])
        return {name: named[name] for name in self._weight_names}

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return views of weights and statistics in the plain network's layout."""
        state = self.original_layout(self.named_weights())
        for layers in self._layers():
            for norm, parts in zip(layers.norms, layers.norm_names, strict=True):
                sizes = [channels for _, channels in parts]
                for statistic in ("running_mean", "running_var"):
                    split = getattr(norm, statistic).split(sizes)
                    state |= {f"{name}.{statistic}": own for (name, _), own in zip(parts, split, strict=True)}
        for name, count in zip(self._norm_names, self.num_batches_tracked.unbind(), strict=True):
            state[f"{name}.num_batches_tracked"] = count
        destination = {} if destination is None else destination
        for name in self._names:
            destination[prefix + name] = state[name] if keep_vars else state[name].detach()
        return destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy a state dict of the plain network's layout into ours. `assign` is not possible: ours are views.

        Raises RuntimeError for missing or unknown keys when strict.
        """
        own = self.state_dict()
        keys = compare_keys(own, state_dict, strict)
        copy_into(own, state_dict)
        return keys

    def _layers(self) -> Iterator[StackedLayers]:
        return (module for module in self.modules() if isinstance(module, StackedLayers))

    def _stacks(self) -> Iterator[Stack]:
        """Yield the weights in the order in which forward takes them."""
        stems, cells = len(self.stems), len(self.cells)
        parts: list[Any] = list(chain(*zip(self.stems, self.preprocessing[:stems], strict=True)))
        parts += chain(*zip(self.cells, self.preprocessing[stems : stems + cells], strict=True))
        for part in parts:
            yield from part.stacks
        yield from self._classifier
        if self.auxiliary is not None:
            yield from self.auxiliary.stacks


class _Auxiliary(nn.Module):
    """The auxiliary head behind its ReLU. Its weights are handed in."""

    def __init__(self, head: AuxiliaryHead, names: Mapping[nn.Module, str]):
        super().__init__()
        _, self.pool, *layers = head.features
        self.layers = StackedLayers([[layer] for layer in layers], names)
        self.stacks = [*self.layers.stacks, *(stack_of(name, [head.classifier], names) for name in ("weight", "bias"))]

    def forward(self, rectified: Tensor, weights: Iterator[Tensor]) -> Tensor:
        features = self.layers(self.pool(rectified), weights).flatten(1)
        return F.linear(features, next(weights), next(weights))


def why_not_fast(plain: DerivedNetwork) -> str | None:
    """Return why the fast form can't be used for a network, as "does not support ...", or None where it can."""
    for cell in plain.cells:
        assert isinstance(cell, Cell)
        for op in cell._ops:
            if not can_group(op):
                return f"does not support the operation {type(op).__name__}"
        read = set(cell.concat)
        for edge in reversed(range(len(cell._ops))):
            if edge // 2 + 2 in read and not isinstance(cell._ops[edge], Noise | Zero):
                read.add(cell.inputs[edge])
        if len(read) < 2 + len(cell._ops) // 2:  # SGD leaves weights without a gradient alone
            return "does not support a cell with a state that nothing learns from"
    return None


def _number_format(images: Tensor, weights: Tensor) -> torch.dtype:
    """Return the number format to compute in: autocast's, or the weights' own."""
    device = images.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weights.dtype
