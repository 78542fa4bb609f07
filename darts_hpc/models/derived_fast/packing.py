"""A network's weights as slices of one vector: one cast, one gradient, one clip and one update serve them all."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 8
"""Every stack starts at a multiple of as many elements: 16 bytes in bfloat16, as tensor cores want it."""


class Stack(NamedTuple):
    """Tensors of the plain network, by name, that the fast one takes as one, concatenated along their first axis."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    is_kernel: bool
    """Of a convolution or a linear layer, computed in autocast's number format; BatchNorm's stay as they are."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(shape[0] for shape in self.shapes), *self.shapes[0][1:])


class Packing:
    """Where the stacks lie in the vector: kernels first, so that one cast of its head serves them."""

    def __init__(self, stacks: Sequence[Stack]):
        self.stacks = list(stacks)
        self._starts = [0] * len(self.stacks)
        ends = [0]
        for is_kernel in (True, False):
            end = ends[-1]
            for index, stack in enumerate(self.stacks):
                if stack.is_kernel == is_kernel:
                    self._starts[index] = end
                    end += -(-math.prod(stack.shape) // ALIGNMENT) * ALIGNMENT
            ends.append(end)
        _, self.num_kernel_elements, self.size = ends

    def unpack(self, vector: Tensor, dtype: torch.dtype) -> Iterable[Tensor]:
        """Return the stacks of the vector (size,), in order, kernels in `dtype`; its gradient is one vector again."""
        return _Unpack.apply(vector, self, dtype) if torch.is_grad_enabled() else self.views(vector, dtype)  # pyright: ignore[reportReturnType]

    def views(self, vector: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """Return a view of the vector for each stack; where `dtype` is another, of a copy of the kernels in it."""
        kernels = vector if dtype in (None, vector.dtype) else vector[: self.num_kernel_elements].to(dtype)
        return tuple(
            _shaped((kernels if stack.is_kernel else vector)[start : start + math.prod(stack.shape)], stack.shape)
            for start, stack in zip(self._starts, self.stacks, strict=True)
        )

    def flat_views(self, vector: Tensor) -> list[Tensor]:
        """Return the slice of the vector for each stack."""
        return [
            vector[start : start + math.prod(stack.shape)]
            for start, stack in zip(self._starts, self.stacks, strict=True)
        ]

    def by_name(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a view of the vector for each tensor of the plain network, by its name."""
        named = {}
        for start, stack in zip(self._starts, self.stacks, strict=True):
            for name, shape in zip(stack.names, stack.shapes, strict=True):
                named[name] = _shaped(vector[start : start + shape.numel()], shape)
                start += shape.numel()
        return named


class _Unpack(torch.autograd.Function):
    """Packing.views, whose backward fills the one gradient by one operation. Not differentiable twice."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, packing: Packing, dtype: torch.dtype) -> tuple[Tensor, ...]:
        ctx.packing, ctx.dtype = packing, vector.dtype
        ctx.set_materialize_grads(False)  # the auxiliary head may have none
        return packing.views(vector, dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        like = next(gradient for gradient in gradients if gradient is not None)
        vector = like.new_zeros(ctx.packing.size, dtype=ctx.dtype)
        slices = ctx.packing.flat_views(vector)
        pairs = [
            (part, _flat(gradient)) for part, gradient in zip(slices, gradients, strict=True) if gradient is not None
        ]
        torch._foreach_copy_([part for part, _ in pairs], [gradient for _, gradient in pairs])  # pyright: ignore[reportPrivateImportUsage]
        return vector, None, None


def _is_dense(shape: Sequence[int]) -> bool:
    """Whether a weight of this shape has a memory format: a convolution's with several inputs and pixels."""
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1


def _shaped(part: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a slice (n,) as a weight, channels last."""
    if _is_dense(shape):
        outputs, inputs, height, width = shape
        return part.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
    return part.view(shape)


def _flat(weight: Tensor) -> Tensor:
    """Undo _shaped: return (n,)."""
    return (weight.permute(0, 2, 3, 1) if _is_dense(weight.shape) else weight).reshape(-1)
