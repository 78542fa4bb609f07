"""The architecture's half of a search step (paper, algorithm 1)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.mixing import Mixing
from darts_hpc.optimizers import Adam
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import UNROLLED_GRADIENTS, Criterion, LabelledImages, first_order_gradient
from darts_hpc.search.regularisers import REGULARISERS

BETAS = (0.5, 0.999)


class Architect:
    """Owns the alphas' optimizer and steps it on validation batches.

    Args:
        supernet: whose alphas are searched.
        learning_rate, weight_decay: of Adam, whose decay is coupled (an L2 term), as in the paper.
        unrolled_method: None for first order, or a key of UNROLLED_GRADIENTS.
        criterion: loss of a batch.
        world: gradients are averaged over its ranks before use; rank 0's alphas are broadcast to all.
        architecture: how alphas are relaxed; softmax by default.
        regulariser: a key of REGULARISERS, or none: added to the alphas' loss with the weight in the step's conditions.
        betas: of Adam.
    """

    def __init__(
        self,
        supernet: RelaxedNetwork,
        *,
        learning_rate: float,
        weight_decay: float,
        unrolled_method: str | None,
        world: World,
        criterion: Criterion = F.cross_entropy,
        architecture: Architecture | None = None,
        regulariser: str = "none",
        betas: tuple[float, float] = BETAS,
    ):
        self.supernet, self.unrolled_method, self.criterion, self.world = supernet, unrolled_method, criterion, world
        self.architecture = Architecture(supernet) if architecture is None else architecture
        self.regulariser = REGULARISERS.get(regulariser)
        world.broadcast_([alpha.detach() for alpha in supernet.alphas()])
        device = supernet.alphas()[0].device.type
        self.optimizer = Adam(
            supernet.alphas(),
            learning_rate,
            betas,
            weight_decay=weight_decay,
            fused=device != "meta",
            capturable=device == "cuda",  # the count of its steps lives on the device, so that a graph can replay it
        )

    def step(
        self,
        train: LabelledImages,
        valid: LabelledImages,
        weight_optimizer: torch.optim.SGD,
        conditions: Conditions | None = None,
    ) -> Tensor:
        """Update the alphas; return their gradient's norm (0-d, on the device)."""
        gradients = self.gradient(train, valid, weight_optimizer, conditions)
        for alpha, gradient in zip(self.supernet.alphas(), gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))

    def gradient(
        self,
        train: LabelledImages,
        valid: LabelledImages,
        weight_optimizer: torch.optim.SGD,
        conditions: Conditions | None = None,
    ) -> list[Tensor]:
        """Return the alphas' gradient, averaged over ranks; nothing else changes."""

        def mix(held: Mapping[str, Tensor] | None = None) -> Mixing:
            return self.architecture.mix_for_alphas(conditions, held)

        if self.unrolled_method is None:
            gradients = first_order_gradient(self.supernet, valid, self.criterion, self.world, mix)
        else:
            unrolled_gradient = UNROLLED_GRADIENTS[self.unrolled_method]
            gradients = unrolled_gradient(
                self.supernet, train, valid, weight_optimizer, self.criterion, self.world, mix
            )  # fmt: skip
        if self.regulariser is None or conditions is None:
            return gradients
        alphas = self.architecture.alphas()
        # it does not depend on the weights: exact in second order too
        own = torch.autograd.grad(self.regulariser(alphas), alphas)
        weight = conditions.regulariser_weight
        regularised = [gradient + weight * part for gradient, part in zip(gradients, own, strict=False)]
        return regularised + gradients[len(alphas) :]

    def state_dict(self) -> dict:
        """Adam's state. The alphas themselves are in the supernet's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore Adam's state. Its settings are kept: a checkpoint's may be for another type of device."""
        settings = [{**group} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
