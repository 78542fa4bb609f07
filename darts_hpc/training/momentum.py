"""What a checkpoint keeps of the weights' optimizer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from darts_hpc.models.supernet.base import RelaxedNetwork


class NamedMomentum:
    """What SGD remembers, by the original's weight names: so that any form of the supernet can go on from it.

    The rate and the other settings are not kept: they follow from the configuration and the epoch.
    """

    def __init__(self, optimizer: torch.optim.SGD, supernet: RelaxedNetwork):
        self.optimizer, self.supernet = optimizer, supernet

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the momentum buffers by name; none before the first step."""
        weights, state = self.supernet.named_weights(), self.optimizer.state
        buffers = {name: state[w].get("momentum_buffer") for name, w in weights.items() if w in state}
        if len(buffers) < len(weights) or any(buffer is None for buffer in buffers.values()):
            return {"momentum_buffer": {}}
        layout = self.supernet.original_layout(buffers)
        return {"momentum_buffer": {name: view.clone() for name, view in layout.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the momentum buffers. They go into those that are there: a CUDA graph may hold them."""
        saved = state["momentum_buffer"]
        weights = self.supernet.named_weights()
        if not saved:
            for w in weights.values():
                self.optimizer.state.pop(w, None)
            return
        for w in weights.values():
            buffer = self.optimizer.state[w].get("momentum_buffer")
            self.optimizer.state[w]["momentum_buffer"] = torch.zeros_like(w) if buffer is None else buffer
        buffers = {name: self.optimizer.state[w]["momentum_buffer"] for name, w in weights.items()}
        for name, view in self.supernet.original_layout(buffers).items():
            view.copy_(saved[name])
