"""Build the supernet in the form that suits the machine."""

from collections.abc import Callable
from typing import Any

import torch

from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.fused import FusedSuperNet, why_not_kernels
from darts_hpc.models.supernet.fast.stacked import StackedSuperNet, why_not_stacked
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

# form of the supernet -> its class; --supernet fast is fused, or stacked where the kernels can't be used
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
    stem: str = "cifar",
    **plain_only: Any,
) -> RelaxedNetwork:
    """Return a new supernet of a form in SUPERNETS, all of which compute the same function.

    `plain_only`: space, partial_channels, auxiliary_skip, which only the plain form supports.
    """
    return SUPERNETS[kind](
        init_channels, layers, num_classes, num_nodes, primitives, checkpoint_cells, edge_norm=edge_norm, stem=stem,
        **plain_only,
    )  # fmt: skip


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
    """Return the form that --supernet `kind` selects on a device, and a line that says why, where it is a fallback.

    auto: a GPU is bound by the launches of small kernels. The stacked form has a tenth of the launches, and the fused
    form, with Triton kernels, is several times faster again. A CPU is bound by the convolutions: there the plain form's
    depthwise ones in channels_last beat the stacked form's dense ones, whose 5-D views would have to be copied. The
    plain form supports every search space.

    Args:
        kind: auto, plain or fast.
        primitives: of every edge; None where edges differ.
        plain_only: why the fast supernet can't be used, if so: "does not support ...".
        torch_only: why the fast supernet's kernels can't be used, if so: "do not support ...".
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
