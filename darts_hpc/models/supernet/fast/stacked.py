"""The supernet with few, large tensor operations: the same function as plain.py, arranged for a GPU.

A cell goes through its states in four stages and runs all out-edges of a stage's states at once: every convolution of
a kind, every BatchNorm, each pool once. A 3x3 kernel is padded to 5x5, and a depthwise convolution composed with the
pointwise one that follows it directly, so that one dense convolution computes both kinds of a whole stage. The last
BatchNorm's affine weight is softmax(alpha): its backward yields alpha's gradient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.layout import CellPlace, place_cells
from darts_hpc.models.norm import batch_norm
from darts_hpc.models.recompute import recompute
from darts_hpc.models.state_dicts import compare_keys, copy_into
from darts_hpc.models.stems import STEMS
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.layout import (
    DIL,
    NUM_NODES,
    SEP_A,
    SEP_B,
    STAGE_EDGES,
    STAGES,
    CellWeights,
    branches,
    cell_weight_shapes,
    mixing_plan,
    norm_channels,
    original_norms,
    original_weights,
)
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.models.supernet.plain import STEM_MULTIPLIER, SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

RunStage = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(stage, its states (B, S * C, H, W), scales of its branches by channel, mixing weights of its pools and skips) -> its
out-edges (B, E, C, H', W')."""


class StackedCell(nn.Module):
    """A cell of the default primitives and four nodes. It owns BatchNorm's statistics; its weights are handed in."""

    corners: Tensor

    def __init__(self, place: CellPlace):
        super().__init__()
        self.place = place
        self.norms = nn.ModuleList(_norm(channels) for channels in norm_channels(place))
        c = place.channels
        corners = torch.zeros(c, 1, 2, 2)  # a factorized reduction as one 2x2 convolution of stride 2: each half of
        corners[: c // 2, 0, 0, 0] = corners[c // 2 :, 0, 1, 1] = 1  # the outputs reads one corner
        self.register_buffer("corners", corners, persistent=False)

    def forward(self, r0: Tensor, r1: Tensor, scales: Tensor, *tensors: Tensor) -> Tensor:
        """Return the nodes (B, 4 * C, H', W') before ReLU.

        Args:
            r0, r1: the two previous states after ReLU.
            scales: mixing weights of all stages' branches (see MixingPlan), one each.
            tensors: the mixing weights of each stage's pools and skips, then the cell's CellWeights.
        """
        c, place, enter_norm = self.place.channels, self.place, self.norms[0]
        mixing, weights = tensors[: len(STAGES)], CellWeights(*tensors[len(STAGES) :])
        scales_by_stage = scales[:, None].expand(-1, c).flatten().split([branches(place, s) * c for s in range(4)])
        run_stage = self.stages(weights)

        if place.reduction_prev:
            entered = self.factorized_reduce(r0, weights.preprocess0)
        else:
            entered = F.conv2d(r0, weights.preprocess0[:, :, None, None])
        entered = torch.cat((entered, F.conv2d(r1, weights.preprocess1[:, :, None, None])), 1)
        x = batch_norm(enter_norm, entered)  # (B, S * C, H, W)
        nodes, rest = [], None  # rest: what earlier states give to the nodes still to come
        for stage, (_, edges) in enumerate(STAGES):
            total = run_stage(stage, x, scales_by_stage[stage], mixing[stage])  # (B, E, C, H, W)
            if rest is not None:
                total = total + rest
            x, rest = (total, None) if edges == 1 else total.split([1, edges - 1], 1)
            x = x.squeeze(1).contiguous()
            nodes.append(x)
        return torch.cat(nodes, 1)

    def stages(self, weights: CellWeights) -> RunStage:
        """Return the function that runs a stage with the cell's weights."""
        kernels = _dense_kernels(weights)

        def run(stage: int, x: Tensor, scale: Tensor, mixing_weights: Tensor) -> Tensor:
            (states, edges), stride = STAGES[stage], self.stride(stage)
            half_norm, out_norm = self.norms_of(stage)
            r = F.relu(x)
            half = _convolve(r, kernels[SEP_A][stage], states, stride=stride)  # (B, S * E * 2 * C, H, W)
            half = F.relu(batch_norm(half_norm, half))
            parts = [
                _convolve(r, kernels[DIL][stage], states, stride=stride, dilation=2),
                _convolve(half, kernels[SEP_B][stage], 2 * states * edges),
            ]
            if stride == 2:
                assert weights.skip is not None
                parts.append(self.factorized_reduce(r, weights.skip.flatten(0, 1), groups=states))
            parts += [F.max_pool2d(x, 3, stride, 1), F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)]
            out = batch_norm(out_norm, torch.cat(parts, 1), scale)
            return self._sum_into_nodes(out, x, mixing_weights, states, edges, stride)

        return run

    def stride(self, stage: int) -> int:
        """Return the stride of a stage's operations."""
        return 2 if self.place.reduction and stage == 0 else 1

    def norms_of(self, stage: int) -> tuple[nn.Module, nn.Module]:
        """Return the BatchNorms of a stage's halves of separable convolutions, and of its branches."""
        return self.norms[1 + stage], self.norms[1 + len(STAGES) + stage]

    def _sum_into_nodes(
        self, out: Tensor, x: Tensor, mixing_weights: Tensor, states: int, edges: int, stride: int
    ) -> Tensor:
        """Add up a stage's scaled branches, and its pools and skips times their mixing weights, for each out-edge."""
        c, height, width = self.place.channels, *out.shape[-2:]
        convolved = 4 * states * edges * c
        pools = 2 * states * c
        parts = out.split(
            [convolved, out.shape[1] - convolved - pools, pools] if stride == 2 else [convolved, pools], 1
        )
        total = parts[0].unflatten(1, (2, states, edges, 2, c)).sum((1, 2, 4))
        if stride == 2:
            total = total + parts[1].unflatten(1, (states, edges, c)).sum(1)
        shared = parts[-1] if stride == 2 else torch.cat((parts[-1], x), 1)
        shared = shared.reshape(len(out), -1, c * height, width)
        return total + F.conv2d(shared, mixing_weights.view(edges, -1, 1, 1)).view_as(total)

    def factorized_reduce(self, r: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
        """Halve the resolution by weight (outputs, C in); an odd side is padded by one at its end."""
        height, width = r.shape[-2:]
        if height % 2 or width % 2:
            r = F.pad(r, (0, width % 2, 0, height % 2))
        kernel = weight.unflatten(0, (-1, self.place.channels))[..., None, None] * self.corners
        return F.conv2d(r, kernel.flatten(0, 1), stride=2, groups=groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, affine=False)
    norm.num_batches_tracked = None  # the network counts for all of them at once
    return norm


def _dense_kernels(weights: CellWeights) -> list[Sequence[Tensor]]:
    """Return kernels (S * E, 2, C out, C in, 5, 5) by role, then stage: pointwise[o, i] * depthwise[i]."""
    depthwise = torch.stack((F.pad(weights.depthwise3, (1, 1, 1, 1)), weights.depthwise5), 2)
    dense = weights.pointwise[..., None, None] * depthwise.unsqueeze(3)  # (3, 14, 2, C, C, 5, 5)
    by_stage = dense.flatten(0, 1).split(STAGE_EDGES * 3)  # one split, so that backward joins them once
    return [by_stage[role * len(STAGES) : (role + 1) * len(STAGES)] for role in range(3)]


def _convolve(x: Tensor, kernel: Tensor, groups: int, stride: int = 1, dilation: int = 1) -> Tensor:
    return F.conv2d(x, kernel.flatten(0, 2), None, stride, 2 * dilation, dilation, groups)


class StackedSuperNet(RelaxedNetwork):
    """The network of the search with all weights in one vector, for the default primitives and four nodes only.

    Its state dict is the original's, as is plain.SuperNet's: either loads the other's. It starts from the same
    weights as SuperNet does for the same seed. Arguments as for SuperNet.
    """

    cell = StackedCell

    def __init__(
        self,
        init_channels: int,
        layers: int,
        num_classes: int,
        num_nodes: int = NUM_NODES,
        primitives: tuple[str, ...] = PRIMITIVES,
        checkpoint_cells: bool = False,
        *,
        edge_norm: bool = False,
        stem: str = "cifar",
    ):
        super().__init__(num_nodes, primitives)
        if reason := why_not_stacked(num_nodes, primitives):
            raise ValueError(f"the stacked supernet {reason}; use the plain one")
        # draws the weights and alphas
        plain = SuperNet(init_channels, layers, num_classes, edge_norm=edge_norm, stem=stem)
        self.checkpoint_cells = checkpoint_cells
        width, self._stem = STEM_MULTIPLIER * init_channels, STEMS[stem]
        places = place_cells(layers, init_channels, (width, width), (num_nodes, num_nodes), self._stem.reduces)
        self._places = list(places)
        stems = [plain.get_parameter(f"{name}.weight").shape for name, _ in self._stem.convolutions]
        self.stem_norms = nn.ModuleList(_norm(shape[0]) for shape in stems)
        self.cells = nn.ModuleList(self.cell(place) for place in self._places)
        last = num_nodes * self._places[-1].channels
        self._shapes: list[tuple[int, ...]] = []
        for shape in stems:
            self._shapes += [shape, shape[:1], shape[:1]]
        for place in self._places:
            self._shapes += cell_weight_shapes(place)
        self._shapes += [(num_classes, last), (num_classes,)]
        self.flat_weights = nn.Parameter(torch.zeros(sum(torch.Size(shape).numel() for shape in self._shapes)))
        num_norms = sum(1 for _ in self._original_norms())
        self.register_buffer("num_batches_tracked", torch.zeros(num_norms, dtype=torch.int64))  # as the original's
        self._plans = {reduction: mixing_plan(reduction) for reduction in (False, True)}
        for reduction, plan in self._plans.items():
            self.register_buffer(f"mixing_positions_{int(reduction)}", plan.positions, persistent=False)
        for name, alphas in plain.named_alphas().items():
            self.register_parameter(name, alphas)
        copy_into(self.state_dict(), plain.state_dict())

    def forward(self, images: Tensor, mixing: Mixing | None = None, keys: Tensor | None = None) -> Tensor:
        """Return logits (B, num_classes) for images (B, 3, H, W), whose keys are not used."""
        mixing = self.softmax_mixing() if mixing is None else mixing
        stem, weights = self._split_stem(self._unpacked(self.flat_weights))
        if self.training and self.stem_norms[0].track_running_stats:
            self.num_batches_tracked += 1
        x = images.contiguous()  # not channels_last: a stage's 5-D views would have to be copied
        entered = []
        for norm, (kernel, gamma, beta) in zip(self.stem_norms, stem, strict=True):
            x = F.relu(batch_norm(norm, F.conv2d(x, kernel, None, self._stem.stride, 1), gamma, beta))
            entered.append(x)
        r0, r1 = entered[max(0, len(entered) - 2)], x
        for cell, place, mixing_weights in zip(self.cells, self._places, self._mixing_weights(mixing), strict=True):
            count = len(cell_weight_shapes(place))
            own, weights = weights[:count], weights[count:]
            run = recompute if self.checkpoint_cells else _call
            x = run(cell, r0, r1, *mixing_weights, *own)
            r0, r1 = r1, F.relu(x)
        return F.linear(x.mean((2, 3)), *weights)

    def _mixing_weights(self, mixing: Mixing) -> list[list[Tensor]]:
        """Return each cell's branch scales and mixing weights.

        Cells of a kind get them by expand and unbind, so that backward joins their gradients in one stack and sum.
        """
        rows = {}
        for reduction in (False, True):
            operations, edges = mixing.of(reduction).operations, mixing.of(reduction).edges
            operations = operations if edges is None else operations * edges[:, None]
            with_one = F.pad(operations, (0, 1), value=1.0).flatten()
            gathered = with_one.index_select(0, getattr(self, f"mixing_positions_{int(reduction)}"))
            count = sum(place.reduction == reduction for place in self._places)
            sizes = self._plans[reduction].sizes
            rows[reduction] = iter([row.split(sizes) for row in gathered.expand(count, -1).unbind(0)])
        return [next(rows[place.reduction]) for place in self._places]

    def _split_stem(self, parts: list[Tensor]) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Return kernel, gamma and beta of each convolution of the stem, and the other parts."""
        end = 3 * len(self.stem_norms)
        return [parts[i : i + 3] for i in range(0, end, 3)], parts[end:]

    def _unpacked(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([torch.Size(shape).numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def original_layout(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views by the original's names of one tensor per weight by our name, such as its momentum."""
        stem, rest = self._split_stem(self._unpacked(weights["flat_weights"]))
        named = {}
        for (conv, norm), (kernel, gamma, beta) in zip(self._stem.convolutions, stem, strict=True):
            named |= {f"{conv}.weight": kernel, f"{norm}.weight": gamma, f"{norm}.bias": beta}
        for index, place in enumerate(self._places):
            count = len(cell_weight_shapes(place))
            own, rest = CellWeights(*rest[:count]), rest[count:]
            named |= {f"cells.{index}.{name}": view for name, view in original_weights(own, place)}
        return {**named, "classifier.weight": rest[0], "classifier.bias": rest[1]}

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return views of weights, statistics and alphas in the original's layout."""
        weights = self.original_layout(self.named_weights())
        state = {**weights, **self.named_alphas()}
        for count, (name, mean, variance) in zip(self.num_batches_tracked, self._original_norms(), strict=True):
            state |= {f"{name}.running_mean": mean, f"{name}.running_var": variance}
            state[f"{name}.num_batches_tracked"] = count
        destination = {} if destination is None else destination
        for name, tensor in state.items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        return destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy a state dict of the original's layout into ours. `assign` is not possible: ours are views.

        Raises RuntimeError for missing or unknown keys when strict, and ValueError, before anything is changed, for
        pools whose BatchNorms differ between the edges of one state, which no run produces and this form can't hold.
        """
        own = self.state_dict()
        keys = compare_keys(own, state_dict, strict)
        held: dict[int, tuple[str, Tensor]] = {}
        for name in own:
            if name.endswith(("running_mean", "running_var")) and name in state_dict:
                other, theirs = held.setdefault(own[name].data_ptr(), (name, state_dict[name]))
                if not torch.equal(theirs, state_dict[name]):
                    raise ValueError(
                        f"{other} and {name} differ: the stacked supernet normalises a pool once for all edges of its "
                        "state; load this state dict with --supernet plain"
                    )
        copy_into(own, state_dict)
        return keys

    def _original_norms(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the original's name, running mean and running variance of each of its BatchNorms."""
        for (_, name), norm in zip(self._stem.convolutions, self.stem_norms, strict=True):
            yield name, norm.running_mean, norm.running_var  # pyright: ignore[reportReturnType]
        for index, cell in enumerate(self.cells):
            norms: Any = cell.norms
            means = original_norms([norm.running_mean for norm in norms], self._places[index])
            variances = original_norms([norm.running_var for norm in norms], self._places[index])
            for (name, mean), (_, variance) in zip(means, variances, strict=True):
                yield f"cells.{index}.{name}", mean, variance


def why_not_stacked(num_nodes: int, primitives: tuple[str, ...] | None) -> str | None:
    """Return why the stacked form can't be used for a search space, as "supports only ...", or None where it can."""
    if num_nodes != NUM_NODES or tuple(primitives or ()) != tuple(PRIMITIVES):
        return f"supports only the {len(PRIMITIVES)} default primitives and {NUM_NODES} nodes"
    return None


def _call(module: nn.Module, *inputs: Tensor) -> Tensor:
    return module(*inputs)
