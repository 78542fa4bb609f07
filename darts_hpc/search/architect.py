"""The architecture's half of a search step (paper, algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.search.hypergradient import UNROLLED_GRADIENTS, Criterion, LabelledImages, first_order_gradient

BETAS = (0.5, 0.999)


class Architect:
    """Owns the alphas' optimizer and steps it on validation batches.

    Args:
        supernet: whose alphas are searched.
        learning_rate, weight_decay: of Adam, whose decay is coupled (an L2 term), as in the paper.
        unrolled_method: None for first order, or a key of UNROLLED_GRADIENTS.
        criterion: loss of a batch.
        world: gradients are averaged over its ranks before use; rank 0's alphas become everybody's.
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
    ):
        self.supernet, self.unrolled_method, self.criterion, self.world = supernet, unrolled_method, criterion, world
        world.broadcast_([alpha.detach() for alpha in supernet.alphas()])
        device = supernet.alphas()[0].device.type
        self.optimizer = torch.optim.Adam(
            supernet.alphas(),
            learning_rate,
            BETAS,
            weight_decay=weight_decay,
            fused=device != "meta",
            capturable=device == "cuda",  # the count of its steps lives on the device, so that a graph can replay it
        )

    def step(self, train: LabelledImages, valid: LabelledImages, weight_optimizer: torch.optim.SGD) -> Tensor:
        """Update the alphas; return their gradient's norm (0-d, on the device)."""
        gradients = self.gradient(train, valid, weight_optimizer)
        for alpha, gradient in zip(self.supernet.alphas(), gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))

    def gradient(self, train: LabelledImages, valid: LabelledImages, weight_optimizer: torch.optim.SGD) -> list[Tensor]:
        """Return the alphas' gradient, averaged over ranks; nothing else changes."""
        if self.unrolled_method is None:
            return first_order_gradient(self.supernet, valid, self.criterion, self.world)
        unrolled_gradient = UNROLLED_GRADIENTS[self.unrolled_method]
        return unrolled_gradient(self.supernet, train, valid, weight_optimizer, self.criterion, self.world)

    def state_dict(self) -> dict:
        """Adam's state. The alphas themselves are in the supernet's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore Adam's state. Its settings stay: those of a checkpoint may be of another kind of device."""
        settings = [{**group} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
