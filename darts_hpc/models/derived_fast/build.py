"""Build the network of a derived cell in the form that suits the machine."""

import torch

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.network import FastDerivedNetwork, why_not_fast

AnyDerivedNetwork = DerivedNetwork | FastDerivedNetwork
"""Both compute the same function, and load each other's state dict."""


def choose_form(kind: str, plain: DerivedNetwork, device: torch.device) -> tuple[str, str | None]:
    """Return the form that --network `kind` selects for a network, and a line that says why, if a fallback.

    auto: a GPU is bound by the launches of small kernels and by memory traffic, of which the fast form has less. It has
    less to do on a CPU, too; there auto stays plain, so that a seed keeps its bits.

    Args:
        kind: auto, plain or fast.
    """
    if kind == "plain" or (kind == "auto" and device.type != "cuda"):
        return "plain", None
    if reason := why_not_fast(plain):
        return "plain", f"the fast network {reason}: taking the plain one"
    return "fast", None


def choose_network(kind: str, plain: DerivedNetwork, device: torch.device) -> tuple[AnyDerivedNetwork, str, str | None]:
    """Return the network in the form of choose_form, with the weights of `plain`, the form, and its line."""
    form, fallback = choose_form(kind, plain, device)
    return FastDerivedNetwork(plain) if form == "fast" else plain, form, fallback
