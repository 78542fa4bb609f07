"""Compiled cells compute what they computed, and a machine without a compiler goes on without."""

import io
import logging
import os
from unittest import mock

import pytest
import torch
from ranks import on_ranks
from torch import nn

from darts_hpc.config.train_search import SearchOptimConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.training.compile import compile_modules, why_not_compile
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_step import search_step

CPU = torch.device("cpu")


def search(compiled_cells: slice) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Run three steps in float64; return the state dict, and how many graphs there were after each."""
    torch.manual_seed(0)
    supernet = build_supernet("stacked", 4, 3, 5).double()
    # Forward and backward graphs without C++, so that it takes seconds.
    assert compile_modules(supernet.cells[compiled_cells], CPU, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    optimizer = build_sgd(supernet.weights(), SearchOptimConfig())
    architect = Architect(
        supernet, learning_rate=0.1, weight_decay=1e-3, unrolled_method="finite_difference", world=World(CPU)
    )
    draw, graphs = torch.Generator().manual_seed(1), []
    for _ in range(3):
        train, valid = (
            (torch.randn(4, 3, 8, 8, generator=draw, dtype=torch.float64), torch.randint(5, (4,), generator=draw))
            for _ in range(2)
        )
        search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=World(CPU))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert not torch._dynamo.utils.counters["graph_break"]
    return supernet.state_dict(), graphs


@pytest.mark.slow
def test_a_search_with_compiled_cells_is_the_same_search_and_every_graph_serves_again():
    # In a child: compiling starts threads, after which this process could not fork any more.
    ((expected, none), (state, graphs)) = (on_ranks(1, search, cells)[0] for cells in (slice(0), slice(1, 2)))
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-12, msg=name)
    assert none == [0, 0, 0] and 0 < graphs[1] == graphs[2]


def without_a_compiler(caches: str) -> tuple[bool, str, torch.Size]:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = caches  # an empty one: what was compiled before needs no compiler
    module, messages = nn.Conv2d(1, 1, 1), io.StringIO()
    logging.getLogger("darts_hpc").addHandler(logging.StreamHandler(messages))
    with mock.patch("torch._inductor.config.cpp.cxx", ("/nowhere/g++",)):
        compiled = compile_modules([module], CPU)
    return compiled, messages.getvalue(), module(torch.ones(1, 1, 2, 2)).shape


def test_without_a_compiler_modules_stay_as_they_are_and_the_log_says_why(tmp_path):
    ((compiled, said, shape),) = on_ranks(1, without_a_compiler, str(tmp_path))
    assert not compiled and shape == (1, 1, 2, 2)
    assert said.startswith("--compile: torch.compile fails here") and said.endswith("going on without\n")


def test_a_compiler_that_works_is_not_refused():
    assert on_ranks(1, why_not_compile, CPU, "eager") == [None]
