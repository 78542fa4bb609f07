"""Whether a network computes, or torch.jit, torch.fx or torch.export records what it does."""

import torch
from torch import Tensor

is_scripting = torch.jit.is_scripting  # pyright: ignore[reportPrivateImportUsage]
"""Whether torch.jit.script compiles this: it leaves out what stands behind `not is_scripting() and ...`."""


@torch.jit.unused
def is_exported() -> bool:
    """Return whether torch.export records this, for sides that are not known yet."""
    return torch.compiler.is_exporting()


def is_computed(x: object) -> bool:
    """Return whether x is a tensor of now, not one by which torch.jit, torch.fx or torch.export records a program."""
    is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return isinstance(x, Tensor) and not is_traced and not torch.compiler.is_exporting()
