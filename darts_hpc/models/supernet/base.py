"""The base of all forms of the relaxed network: alphas, apart from its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darts_hpc.models.supernet.mixing import CellMixing, Mixing


class RelaxedNetwork(nn.Module):
    """The network of the search; its forms compute the same function by other operations.

    It owns the alphas, softmax(alpha) being each edge's weights of the operations (paper, equation 2).

    Args:
        num_nodes: nodes of a cell; E = num_nodes * (num_nodes + 3) / 2 edges.
        primitives: the O candidate operations.

    Attributes:
        cells: the modules that do nearly all of the work.
    """

    cells: nn.ModuleList

    def __init__(self, num_nodes: int, primitives: tuple[str, ...]):
        super().__init__()
        self.num_nodes, self.primitives = num_nodes, primitives

    def draw_alphas(self, edge_norm: bool = False) -> None:
        """Start the alphas, and the betas of normalised edges, near 0, as the original does, after the weights."""
        num_edges = self.num_nodes * (self.num_nodes + 3) // 2
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(num_edges, len(self.primitives)))  # (E, O)
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(num_edges, len(self.primitives)))  # (E, O)
        if edge_norm:
            self.betas_normal = nn.Parameter(1e-3 * torch.randn(num_edges))  # (E,)
            self.betas_reduce = nn.Parameter(1e-3 * torch.randn(num_edges))  # (E,)

    def named_alphas(self) -> dict[str, nn.Parameter]:
        """Architecture parameters by name: alphas (E, O) of normal and reduction cell, and betas (E,), if any."""
        names = "alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce"
        return {name: parameter for name in names if (parameter := self._parameters.get(name)) is not None}

    def alphas(self) -> tuple[nn.Parameter, ...]:
        """Architecture parameters, in the order of their names."""
        return tuple(self.named_alphas().values())

    def softmax_mixing(self) -> Mixing:
        """Return what the paper mixes by: softmax(alpha)."""
        normal, reduce = (CellMixing(operations=alphas.softmax(-1)) for alphas in self.alphas()[:2])
        return Mixing(normal=normal, reduce=reduce)

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Every parameter that is not an alpha, by name and in a fixed order."""
        alphas = self.named_alphas()
        return {name: p for name, p in self.named_parameters() if name not in alphas}

    def weights(self) -> list[nn.Parameter]:
        """Every parameter that is not an alpha, in a fixed order."""
        return list(self.named_weights().values())

    @contextmanager
    def differentiable_twice(self) -> Iterator[None]:
        """Inside, gradients can be differentiated again, which some forms can't do otherwise."""
        yield

    def original_layout(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views by the original's names of one tensor per weight by our name, such as its momentum."""
        return dict(weights)
