"""Build the supernet in the form that suits the machine."""

from collections.abc import Callable
from typing import Any

import torch

from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.fused import FusedSuperNet, why_not_kernels
from darts_hpc.models.supernet.fast.stacked import StackedSuperNet, why_not_stacked
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

# form of the supernet -> its class; fast is fused, or stacked where its kernels do not serve
SUPERNETS: dict[str, Callable[..., RelaxedNetwork]] = {
    "plain": SuperNet,
    "stacked": StackedSuperNet,
    "fused": FusedSuperNet,
}


def build_supernet(
    kind: str,
    init_channels: int,
    layers: int,
    num_classes: int,
    *,
    num_nodes: int = 4,
    primitives: tuple[str, ...] = PRIMITIVES,
    checkpoint_cells: bool = False,
    edge_norm: bool = False,
    **plain_only: Any,
) -> RelaxedNetwork:
    """Return a new supernet of a form in SUPERNETS, all of which compute the same function.

    `plain_only`: space, partial_channels, auxiliary_skip, which the plain form alone serves.
    """
    return SUPERNETS[kind](
        init_channels, layers, num_classes, num_nodes, primitives, checkpoint_cells, edge_norm=edge_norm, **plain_only
    )


def choose_supernet(
    kind: str,
    device: torch.device,
    init_channels: int,
    *,
    num_nodes: int = 4,
    primitives: tuple[str, ...] | None = PRIMITIVES,
    torch_only: str | None = None,
    plain_only: str | None = None,
) -> tuple[str, str | None]:
    """Return the form that --supernet `kind` means on a device, and a line that says why it is another than was meant.

    auto: a GPU waits for launches and starves on small kernels. The stacked form has a tenth of the launches, and the
    fused one runs it by kernels of our own, several times faster again. A CPU spends its time in the convolutions:
    there the plain form's depthwise ones in channels_last beat the stacked form's dense ones, and its 5-D views would
    have to be copied. The plain form serves every search space.

    Args:
        kind: auto, plain or fast.
        primitives: of every edge; None where edges differ.
        plain_only: why the fast supernet can't serve the search, if so: "serves only ...".
        torch_only: why nothing but torch's operations will do, if so: "the kernels ...".
    """
    if kind == "plain" or (kind == "auto" and device.type != "cuda"):
        return "plain", None
    if reason := plain_only or why_not_stacked(num_nodes, primitives):
        return "plain", f"the fast supernet {reason}: taking the plain one"
    if device.type != "cuda":
        return "stacked", None
    if reason := torch_only or why_not_kernels(device, init_channels):
        return "stacked", f"the fast supernet's kernels {reason}: taking its stacked form"
    return "fused", None
