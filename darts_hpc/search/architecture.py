"""The architecture of a search: its parameters by name, and how the supernet's mixing follows from them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import CellMixing, Columns, Mixing
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.projection import Projection
from darts_hpc.search.relaxations import EXPECTED, RELAXATIONS, STRENGTHS, Relaxation, edge_softmax, softmax

KINDS = ("normal", "reduce")


class Architecture:
    """Alphas (E, O), and betas (E,) where edges are normalised, of both kinds of cells, and their relaxation.

    Args:
        supernet: which holds the parameters.
        relaxation: a key of RELAXATIONS, or a user's own function, which ValueError names where it gives no (E, O).
        auxiliary_skip: whether the supernet has auxiliary skips, whose share Conditions give.
        drop_path: whether edges are dropped in training, by the chance that Conditions give.
    """

    def __init__(
        self,
        supernet: RelaxedNetwork,
        relaxation: str | Relaxation = "softmax",
        *,
        auxiliary_skip: bool = False,
        drop_path: bool = False,
    ):
        self.auxiliary_skip, self.drop_path = auxiliary_skip, drop_path
        self.relaxation = relaxation if isinstance(relaxation, str) else "own"
        self._relax = RELAXATIONS[relaxation] if isinstance(relaxation, str) else relaxation
        self._named = supernet.named_alphas()
        self.edge_norm = "betas_normal" in self._named
        if self.relaxation == "own":
            _check_shapes(self._relax, self.alphas())
        self.projections = {kind: Projection(*self._named[f"alphas_{kind}"].shape) for kind in KINDS}

    def named(self) -> dict[str, nn.Parameter]:
        """Every parameter by name, in a fixed order: alphas_normal, alphas_reduce, betas_normal, betas_reduce."""
        return dict(self._named)

    def alphas(self) -> list[nn.Parameter]:
        """The alphas alone: normal cell, reduction cell."""
        return [self._named[f"alphas_{kind}"] for kind in KINDS]

    @property
    def has_decisions(self) -> bool:
        """Whether any edge is decided."""
        return not all(projection.is_empty for projection in self.projections.values())

    def mix_for_alphas(self, conditions: Conditions | None, held: Mapping[str, Tensor] | None = None) -> Mixing:
        """Return the mixing of an alpha step, the same in all passes. held: tensors by name, not the parameters."""
        return self._mix(conditions, None if conditions is None else conditions.alpha_key, held)

    def mix_for_weights(self, conditions: Conditions | None) -> Mixing:
        """Return the mixing of a weight step, which passes no gradient to the parameters."""
        return self._mix(conditions, None if conditions is None else conditions.weight_key, self._held())

    def mix_expected(self, conditions: Conditions | None) -> Mixing:
        """Return the mixing of an evaluation, where nothing is drawn."""
        return self._mix(conditions, None, self._held())

    def strengths(self) -> dict[str, Tensor]:
        """Return what the magnitude rule compares, (E, O) for each kind: relaxed alphas, times edge weights."""
        strengths = {}
        for kind in KINDS:
            alphas = self._named[f"alphas_{kind}"].detach()
            strength = STRENGTHS.get(self.relaxation, softmax)(alphas)
            if self.edge_norm:
                strength = strength * edge_softmax(self._named[f"betas_{kind}"].detach())[:, None]
            strengths[kind] = self.projections[kind].apply(strength)
        return strengths

    def operation_weights(self, conditions: Conditions | None = None) -> dict[str, Tensor]:
        """Return the weights (E, O), float64, by which the supernet mixes each kind's operations, on average over what
        is drawn; those of decided edges are 0 or 1."""
        relax, tau, weights = EXPECTED.get(self.relaxation, self._relax), _tau(conditions), {}
        for kind in KINDS:
            alphas = self._named[f"alphas_{kind}"].detach()
            m = relax(alphas if self.relaxation == "own" else alphas.double(), None, tau)
            weights[kind] = self.projections[kind].apply(m.double())
        return weights

    def entropies(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean entropy per edge in nats of weights (E, O), by kind; of gates, the sum of each one's."""
        entropies = {}
        for kind, m in weights.items():
            terms = torch.special.entr(m)
            if self.relaxation == "sigmoid":
                terms = terms + torch.special.entr(1 - m)
            elif self.relaxation == "own":  # of any size
                shares = m.clamp_min(0)
                terms = torch.special.entr(shares / shares.sum(-1, keepdim=True).clamp_min(1e-30))
            entropies[kind] = terms.sum(-1).mean().item()
        return entropies

    def edge_weights(self) -> dict[str, Tensor]:
        """Return the weights (E,) of edges, for each kind, where they are normalised; those of dropped edges are 0."""
        if not self.edge_norm:
            return {}
        weights = {}
        for kind in KINDS:
            b = edge_softmax(self._named[f"betas_{kind}"].detach())
            weights[kind] = b * torch.tensor([not dropped for dropped in self.projections[kind].dropped]).to(b)
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Return the decisions about edges; the parameters are in the supernet's state dict."""
        return {kind: projection.state_dict() for kind, projection in self.projections.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the decisions."""
        for kind, projection in self.projections.items():
            projection.load_state_dict(state[kind])

    def columns_drawn(self, m: Tensor) -> Columns:
        """Return the one operation of each edge that runs. On a GPU all run: reading it would wait for the device."""
        return tuple((column,) for column in m.argmax(-1).tolist()) if m.device.type == "cpu" else None

    def _held(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def _mix(self, conditions: Conditions | None, key: Tensor | None, held: Mapping[str, Tensor] | None) -> Mixing:
        parameters = self._named if held is None else held
        cells = {}
        for index, kind in enumerate(KINDS):
            draw = None if conditions is None or key is None else conditions.draw(key, index)
            projection = self.projections[kind]
            m = projection.apply(self._relax(parameters[f"alphas_{kind}"], draw, _tau(conditions)))
            b = edge_softmax(parameters[f"betas_{kind}"]) if self.edge_norm else None
            cells[kind] = CellMixing(
                operations=m,
                edges=projection.apply_to_edges(b, m),
                auxiliary=conditions.auxiliary_share if self.auxiliary_skip and conditions is not None else None,
                columns=self.columns_drawn(m) if self.relaxation == "gumbel" else projection.columns(),
            )
        drop_path = conditions.drop_path if self.drop_path and conditions is not None and key is not None else None
        return Mixing(**cells, drop_path=drop_path)


def _tau(conditions: Conditions | None) -> Tensor | float:
    return 1.0 if conditions is None else conditions.tau


def _check_shapes(relaxation: Relaxation, alphas: list[nn.Parameter]) -> None:
    for parameter in alphas:
        m = relaxation(parameter.detach(), None, 1.0)
        if not isinstance(m, Tensor) or m.shape != parameter.shape:
            found = tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__
            raise ValueError(f"the relaxation returns {found} for alphas {tuple(parameter.shape)}: expected that shape")
