"""The moving average of a network's weights, which is tested and kept in place of the last ones (--ema)."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


class WeightAverage(Generic[N]):
    """A copy of a network with the exponential moving average of its weights over the steps.

    As timm's ModelEmaV3: BatchNorm's running statistics are averaged as weights are, and its counts of batches are
    copied. An update is a few foreach operations in place on the device, which a CUDA graph can hold.

    Attributes:
        network: the copy. It shares nothing with the network, and is not trained.
    """

    def __init__(self, network: N, decay: float):
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self._averages, self._counts = _by_kind(self.network)
        self._newest, self._newest_counts = _by_kind(network)
        self._share = self._averages[0].new_zeros(())  # of the newest weights

    def begin_step(self, step: int) -> None:
        """Set the decay of the next update, for the run's step with this number, 0-based."""
        self._share.fill_(1 - warmed_up(self.decay, step))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        change = torch._foreach_sub(self._newest, self._averages)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(change, self._share)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(self._averages, change)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_copy_(self._counts, self._newest_counts)  # pyright: ignore[reportPrivateImportUsage]


def _by_kind(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and statistics, and counts."""
    tensors = [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]


def warmed_up(decay: float, step: int) -> float:
    """Return the decay at a step, 0-based: 1 - (1 + step) ** (-2 / 3) until that exceeds `decay`, as timm has it.

    So the first weights, which are random, are soon forgotten: the first average is the first step's weights.
    """
    return min(decay, 1 - (1 + step) ** (-2 / 3))
