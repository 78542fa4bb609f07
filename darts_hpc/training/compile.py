"""Compile modules with torch.compile where that works, and say so where it does not."""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

GRAPHS_PER_MODULE = 8
"""Most graphs that one module compiles to: in each mode, for gradients of alphas, of weights, of both, of none."""


def compile_modules(modules: Iterable[nn.Module], device: torch.device, backend: str = "inductor") -> bool:
    """Compile each module in place, when it is first called; return False, and warn, where no compiler works."""
    if reason := why_not_compile(device, backend):
        log.warning("--compile: %s; going on without", reason)
        return False
    modules = list(modules)
    # Modules of a class share their code, and torch runs it uncompiled beyond a number of graphs.
    limit = GRAPHS_PER_MODULE * len(modules)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, limit)
    for module in modules:
        module.compile(backend=backend)
    return True


def why_not_compile(device: torch.device, backend: str = "inductor") -> str | None:
    """Return why torch.compile does not work here, such as a missing C++ compiler, or None. Compiles one line."""

    def line(x: Tensor) -> Tensor:
        return x.sin() + 1

    try:
        torch.compile(line, backend=backend)(torch.zeros(2, device=device))
    except Exception as error:
        return f"torch.compile fails here ({str(error).strip().splitlines()[0]})"
    return None
