"""SGD as the original uses it, in several implementations, and its state in a checkpoint."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from darts_hpc.config.shared import SgdConfig
from darts_hpc.optimizers import SGD

APEX_HINT = (
    "build it from https://github.com/NVIDIA/apex with APEX_CPP_EXT=1 APEX_CUDA_EXT=1 (the package index has another "
    "project of that name), or leave --optimizer_impl at auto"
)


def build_sgd(weights: Iterable[nn.Parameter], cfg: SgdConfig, *, fused: bool | None = None) -> torch.optim.SGD:
    """Return SGD as the original uses it: plain momentum, coupled weight decay. fused: one kernel for all weights."""
    return SGD(weights, cfg.learning_rate, momentum=cfg.momentum, weight_decay=cfg.weight_decay, fused=fused)


def choose_optimizer_impl(asked: str, device: torch.device) -> str:
    """Return fused, foreach or apex; auto is fused on CUDA, and foreach elsewhere.

    Raises ValueError for apex without CUDA.
    """
    if asked == "apex" and device.type != "cuda":
        raise ValueError(f"--optimizer_impl apex needs CUDA, and this run is on {device}; leave it at auto")
    return ("fused" if device.type == "cuda" else "foreach") if asked == "auto" else asked


def build_sgd_of(impl: str, weights: Iterable[nn.Parameter], cfg: SgdConfig) -> torch.optim.Optimizer:
    """Return the same SGD in an implementation: fused, foreach or apex. They differ in speed and in the last bits.

    Raises ValueError when apex or its CUDA extensions are missing, or would leave some weights as they are.
    """
    if impl != "apex":
        arguments = {"lr": cfg.learning_rate, "momentum": cfg.momentum, "weight_decay": cfg.weight_decay}
        return SGD(weights, **arguments, **{impl: True})
    weights = list(weights)
    try:
        fused_sgd = importlib.import_module("apex.optimizers").FusedSGD
        importlib.import_module("amp_C")
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--optimizer_impl apex: apex has no FusedSGD here ({error}); {APEX_HINT}") from None
    if odd := {str(w.dtype) for w in weights} - {"torch.float32", "torch.float16"}:
        # FusedSGD sorts its weights into a list of float16 and one of float32, and never looks at any other
        raise ValueError(
            f"--optimizer_impl apex: FusedSGD would not update weights of {', '.join(sorted(odd))}; keep the weights "
            "in float32 (as --precision does), or leave --optimizer_impl at auto"
        )
    return fused_sgd(weights, lr=cfg.learning_rate, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # on the device, where a CUDA graph reads it
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


class NamedWeights(Protocol):
    """A network whose weights have the names of the original's, whatever tensors hold them."""

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Return the weights by our name."""
        ...

    def original_layout(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views by the original's names of one tensor per weight by our name, such as its momentum."""
        ...


class MomentumByName:
    """SGD's momentum by the original's weight names, so that any form of the network can resume from it.

    The rate and the other settings are not kept: they follow from the configuration and the epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, network: NamedWeights):
        self.optimizer, self.network = optimizer, network

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the momentum buffers by name: none before the first step, nor of weights without a gradient."""
        state = self.optimizer.state
        buffers = {
            name: state[w].get("momentum_buffer") for name, w in self.network.named_weights().items() if w in state
        }
        buffers = {name: buffer for name, buffer in buffers.items() if buffer is not None}
        layout = self.network.original_layout(buffers) if buffers else {}
        return {"momentum_buffer": {name: view.clone() for name, view in layout.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the momentum buffers. Existing buffers are filled in place: a CUDA graph may hold them."""
        weights = self.network.named_weights()
        saved = state["momentum_buffer"] if "momentum_buffer" in state else self._by_name(state)
        theirs = self.network.original_layout(weights)
        if unknown := next((name for name in saved if name not in theirs), None):
            raise ValueError(f"momentum of {unknown!r}, which is no weight of this network")
        buffers = {}
        for name, w in weights.items():
            if not saved or (name in theirs and name not in saved):
                self.optimizer.state.pop(w, None)
            else:
                buffer = self.optimizer.state[w].get("momentum_buffer")
                buffers[name] = self.optimizer.state[w]["momentum_buffer"] = (
                    torch.zeros_like(w) if buffer is None else buffer
                )
        for name, view in (self.network.original_layout(buffers) if buffers else {}).items():
            view.copy_(saved[name])

    def _by_name(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the buffers of an optimizer's own state dict, which trainings kept in version 0.2."""
        names = list(self.network.original_layout(self.network.named_weights()))
        buffers = {names[index]: own.get("momentum_buffer") for index, own in state["state"].items()}
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}
