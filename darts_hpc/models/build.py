"""Build the supernet in the form that suits the machine."""

import logging
from collections.abc import Callable

import torch

from darts_hpc.models.relaxed import RelaxedNetwork
from darts_hpc.models.stacked import StackedSuperNet, unserved
from darts_hpc.models.supernet import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

log = logging.getLogger(__name__)

# form of the supernet -> its class
SUPERNETS: dict[str, Callable[..., RelaxedNetwork]] = {"plain": SuperNet, "stacked": StackedSuperNet}


def build_supernet(
    kind: str,
    init_channels: int,
    layers: int,
    num_classes: int,
    *,
    num_nodes: int = 4,
    primitives: tuple[str, ...] = PRIMITIVES,
    checkpoint_cells: bool = False,
) -> RelaxedNetwork:
    """Return a new supernet of a form in SUPERNETS, all of which compute the same function."""
    return SUPERNETS[kind](init_channels, layers, num_classes, num_nodes, primitives, checkpoint_cells)


def choose_supernet(
    kind: str, device: torch.device, num_nodes: int = 4, primitives: tuple[str, ...] = PRIMITIVES
) -> str:
    """Return the form that --supernet `kind` means on a device; the plain one, and a line that says so, where the
    stacked one does not serve the search space.

    auto: a GPU waits for launches and starves on small kernels, and the stacked form has a tenth of them. A CPU spends
    its time in the convolutions: there the plain form's depthwise ones in channels_last beat the stacked form's dense
    ones, and its 5-D views would have to be copied.
    """
    if kind == "auto":
        kind = "stacked" if device.type == "cuda" else "plain"
    if kind == "stacked" and (reason := unserved(num_nodes, primitives)):
        log.warning("the stacked supernet %s: taking the plain one", reason)
        return "plain"
    return kind
