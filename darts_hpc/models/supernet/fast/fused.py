"""The stacked supernet by Triton kernels: depthwise and pointwise convolutions, fused with the BatchNorms around them.

On a GPU the stacked form's dense convolutions cost ten times the arithmetic, and each BatchNorm, ReLU and sum a pass
over memory, which the kernels avoid. A kernel is differentiable once: for a gradient that is differentiated again, or
BatchNorm by other statistics than the batch's, a cell falls back to torch's operations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.norm import batch_norm
from darts_hpc.models.supernet.fast.kernels.probe import probe
from darts_hpc.models.supernet.fast.kernels.stage_convolutions import MOST_CHANNELS, stage_convolutions
from darts_hpc.models.supernet.fast.kernels.stage_pools import stage_pools
from darts_hpc.models.supernet.fast.layout import STAGE_EDGES, STAGES, CellWeights
from darts_hpc.models.supernet.fast.stacked import RunStage, StackedCell, StackedSuperNet


class FusedCell(StackedCell):
    """A StackedCell whose stages run by Triton kernels; the few stride-2 skips by torch's operations."""

    differentiable_twice = False

    def stages(self, weights: CellWeights) -> RunStage:
        """Return the function that runs a stage with the cell's weights."""
        if not self._can_use_kernels():
            return super().stages(weights)
        taps = (depthwise.flatten(3).transpose(2, 3) for depthwise in (weights.depthwise3, weights.depthwise5))
        by_stage = [part.contiguous().split(STAGE_EDGES, 1) for part in (*taps, weights.pointwise)]

        def run(stage: int, x: Tensor, scale: Tensor, mixing_weights: Tensor) -> Tensor:
            (states, edges), stride = STAGES[stage], self.stride(stage)
            half_norm, out_norm = self.norms_of(stage)
            sizes = states, edges, stride
            convolved = 4 * states * edges * self.place.channels
            depthwise3, depthwise5, pointwise = (part[stage] for part in by_stage)
            total = stage_convolutions(
                x, depthwise3, depthwise5, pointwise, scale[:convolved], sizes, half_norm, out_norm
            )  # fmt: skip
            total = total + stage_pools(x, mixing_weights, sizes, out_norm)
            if stride == 2:
                assert weights.skip is not None
                skips = self.factorized_reduce(F.relu(x), weights.skip.flatten(0, 1), groups=states)
                channels = slice(convolved, convolved + skips.shape[1])
                skips = batch_norm(out_norm, skips, scale[channels], channels=channels)
                total = total + skips.unflatten(1, (states, edges, -1)).sum(1)
            return total

        return run

    def _can_use_kernels(self) -> bool:
        norms_own_batch = all(type(norm) is nn.BatchNorm2d for norm in self.norms)  # not one over several ranks
        of_batch_or_no_gradient = self.training or not torch.is_grad_enabled()
        return norms_own_batch and of_batch_or_no_gradient and not self.differentiable_twice


class FusedSuperNet(StackedSuperNet):
    """A StackedSuperNet of FusedCells."""

    cell = FusedCell

    @contextmanager
    def differentiable_twice(self) -> Iterator[None]:
        """Inside, gradients can be differentiated again."""
        cells = [cell for cell in self.cells if isinstance(cell, FusedCell)]
        for cell in cells:
            cell.differentiable_twice = True
        try:
            yield
        finally:
            for cell in cells:
                cell.differentiable_twice = False


def why_not_kernels(device: torch.device, init_channels: int) -> str | None:
    """Return why the kernels can't be used on a GPU, as "need ...", or None where they can; compiles and runs one."""
    most = 4 * init_channels  # two reductions double them
    if most > MOST_CHANNELS:
        return f"support at most {MOST_CHANNELS // 4} init_channels"
    try:
        probe(device, most)
    except Exception as error:  # Triton is missing, or its C compiler, or the GPU is too old or too small for it
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"need Triton, which fails here ({said})"
    return None
