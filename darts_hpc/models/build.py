"""Build the supernet in the form that suits the machine."""

from collections.abc import Callable

from darts_hpc.models.relaxed import RelaxedNetwork
from darts_hpc.models.supernet import SuperNet
from darts_hpc.space.genotypes import PRIMITIVES

# form of the supernet -> its class
SUPERNETS: dict[str, Callable[..., RelaxedNetwork]] = {"plain": SuperNet}


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
