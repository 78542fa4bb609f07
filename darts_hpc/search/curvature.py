"""The validation loss's largest eigenvalue in alpha, which rises before a search collapses (Zela et al., 2020)."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_hpc import counter_rng
from darts_hpc.distributed.world import World
from darts_hpc.models.recompute import frozen_running_statistics
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import LabelledImages

NUM_PRODUCTS = 15
"""Hessian-vector products: they give the value of the full matrix to 1e-12 on RobustDARTS' spaces."""


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, num_products: int = NUM_PRODUCTS) -> Tensor:
    """Return the largest signed eigenvalue (0-d) of a symmetric matrix, given as its product with a vector (N,).

    NaN where the products are not finite, as after a search has diverged.

    Lanczos with full reorthogonalisation: its value grows towards the largest eigenvalue from below, never towards a
    negative one that is larger in size, as in power iteration.

    Args:
        start: any vector (N,) that is not orthogonal to the eigenvector, such as a random one.
    """
    basis: list[Tensor] = []
    diagonal, off_diagonal = [], []
    vector = start / start.norm()
    for _ in range(min(num_products, len(start))):
        basis.append(vector)
        image = product(vector)
        diagonal.append(image @ vector)
        spanned = torch.stack(basis)
        for _ in range(2):  # once more: the first pass leaves rounding errors of its own
            image = image - spanned.T @ (spanned @ image)
        norm = image.norm()
        scale = torch.stack([entry.abs() for entry in diagonal]).max()
        if norm <= 1e-12 * scale.clamp_min(1e-30):  # the space is exhausted: the eigenvalues are exact
            break
        off_diagonal.append(norm)
        vector = image / norm
    size = len(diagonal)
    matrix = torch.diag(torch.stack(diagonal))
    if size > 1:
        off = torch.stack(off_diagonal[: size - 1])
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    if not matrix.isfinite().all():  # which eigvalsh fails on
        return matrix.new_tensor(math.nan)
    return torch.linalg.eigvalsh(matrix)[-1]


def largest_alpha_eigenvalue(
    supernet: RelaxedNetwork,
    architecture: Architecture,
    batch: LabelledImages,
    conditions: Conditions | None,
    *,
    weight_decay: float,
    start: Tensor,
    world: World,
) -> Tensor:
    """Return the largest signed eigenvalue (0-d) of alpha_hessian_product's matrix. start: a vector (2 * E * O,)."""
    with frozen_running_statistics(supernet), supernet.differentiable_twice():
        product = alpha_hessian_product(
            supernet, architecture, batch, conditions, weight_decay=weight_decay, world=world
        )  # fmt: skip
        return largest_eigenvalue(product, start)


def alpha_hessian_product(
    supernet: RelaxedNetwork,
    architecture: Architecture,
    batch: LabelledImages,
    conditions: Conditions | None,
    *,
    weight_decay: float,
    world: World,
) -> Callable[[Tensor], Tensor]:
    """Return the product of a vector (2 * E * O,) with d2 L / d alpha2 + weight_decay * I on one validation batch.

    At the current weights, with BatchNorm as in training; the Hessian of the mean loss over ranks. It is over the
    alphas alone, without betas, so that searches with and without them can be compared.
    """
    images, labels, *keys = batch
    alphas = architecture.alphas()
    weights = {name: weight.detach() for name, weight in supernet.named_weights().items()}
    mixing = architecture.mix_for_alphas(conditions)
    loss = F.cross_entropy(torch.func.functional_call(supernet, weights, (images, mixing, *keys)), labels)
    gradients = torch.autograd.grad(loss, alphas, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        parts = [part.view_as(alpha) for part, alpha in zip(vector.split(alphas[0].numel()), alphas, strict=True)]
        products = world.mean(torch.autograd.grad(gradients, alphas, parts, retain_graph=True))
        return torch.cat([part.flatten() for part in products]) + weight_decay * vector

    return product


def start_vector(seed: int, epoch: int, like: Sequence[Tensor]) -> Tensor:
    """Return the random vector that Lanczos starts from, of the size of all tensors together."""
    size = sum(tensor.numel() for tensor in like)
    return counter_rng.normal(seed, epoch, torch.arange(size, device=like[0].device)).to(like[0].dtype)
