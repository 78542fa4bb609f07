"""Parameters and multiply-adds of a network."""

from typing import NamedTuple

import torch
from torch import nn

AUXILIARY_PREFIX = "auxiliary_head."


class Costs(NamedTuple):
    """`parameters` excludes the auxiliary head, as published tables do; `multiply_adds` is for one image."""

    parameters: int
    parameters_with_auxiliary: int
    multiply_adds: int

    def __str__(self) -> str:
        auxiliary = f" ({self.parameters_with_auxiliary / 1e6:.3f} M with the auxiliary head)"
        return (
            f"{self.parameters / 1e6:.3f} M parameters"
            + (auxiliary if self.parameters_with_auxiliary != self.parameters else "")
            + f", {self.multiply_adds / 1e6:.1f} M multiply-adds"
        )


def measure_costs(network: nn.Module, image_size: int) -> Costs:
    """Count parameters, and the multiply-adds of convolutions and linear layers in evaluation (BatchNorm not counted).

    One forward pass of no images through weights that take no memory: nothing is computed, on whatever device the
    network lies, and it is left alone.
    """
    parameters = {name: p.numel() for name, p in network.named_parameters()}
    auxiliary = sum(count for name, count in parameters.items() if name.startswith(AUXILIARY_PREFIX))
    total = sum(parameters.values())
    return Costs(total - auxiliary, total, _multiply_adds(network, image_size))


def _multiply_adds(network: nn.Module, image_size: int) -> int:
    counted = 0

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        per_output = module.weight[0].numel()  # pyright: ignore[reportIndexIssue]
        counted += per_output * output.shape[1:].numel()

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = network.training
    # On the CPU, not on the meta device, whose operations import torch's compiler, which takes 2 s.
    tensors = (*network.named_parameters(), *network.named_buffers())
    state = {name: torch.zeros((), dtype=t.dtype, device="cpu").expand(t.shape) for name, t in tensors}
    try:
        network.eval()
        torch.func.functional_call(network, state, torch.empty(0, 3, image_size, image_size, device="cpu"))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return counted
