"""A whole step as one CUDA graph: recorded once, then replayed without Python. Searches and trainings share it."""

import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from darts_hpc.distributed.world import World

log = logging.getLogger(__name__)

WARM_UP_STEPS = 3
"""Eager steps before the capture: optimizers make their state, cuDNN and the allocator settle. They are real steps."""

Numbers = TypeVar("Numbers")


class Recorder:
    """What records steps on a GPU, on a stream of its own, and replays them."""

    def __init__(self):
        self._stream = torch.cuda.Stream()

    def warm_up(self, step: Callable[[], Numbers]) -> Numbers:
        """Run a step where it will be recorded, as a capture requires."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            numbers = step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return numbers

    def record(self, step: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
        """Record a step without running it; return what runs it, and the numbers that each run overwrites.

        Raises RuntimeError where a step can't be recorded.
        """
        torch.cuda.empty_cache()  # the graph's memory is a pool of its own
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # loaders and NCCL call CUDA from threads of their own meanwhile, which "global" would forbid
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                numbers = step()
        except RuntimeError:
            torch.cuda.set_stream(stream)  # torch 2.11 leaves the capture's stream current
            raise
        return graph.replay, numbers


class GraphedStep(Generic[Numbers]):
    """A step that runs eagerly at first, and from then on as a CUDA graph, which is the same computation.

    The first WARM_UP_STEPS steps run where the graph is captured. Inputs of other shapes, and every step after a failed
    capture, run eagerly; both are announced once. A capture executes nothing, so weights and alphas are as the last
    step left them. Where one rank fails to capture, all run eagerly.

    Args:
        step: takes tensors and nested tuples of them. It must not wait for the device, keeps its shapes, and reads all
            that changes from the device, such as its learning rate (`hold_learning_rate_on`).
        name: of the step, in log lines.
    """

    def __init__(self, step: Callable[..., Numbers], world: World, name: str):
        self._eager, self._world, self._name = step, world, name
        self._recorder = Recorder()
        self._steps_done = 0
        self._replay: Callable[[], None] | None = None
        self._failed = self._warned_of_shape = False
        if world.size > 1:
            world.before_leaving.append(self.release)

    def __call__(self, *inputs: Any) -> Numbers:
        """Run one step. The numbers are read before the next one, which overwrites them."""
        if self._failed:
            return self._eager(*inputs)
        if self._steps_done < WARM_UP_STEPS:
            self._steps_done += 1
            return self._recorder.warm_up(lambda: self._eager(*inputs))
        if self._replay is None and not self._capture(inputs):
            return self._eager(*inputs)
        tensors, _ = tree_flatten(inputs)
        if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in self._inputs]:
            if not self._warned_of_shape:
                log.warning("a batch of another size: this %s runs without the CUDA graph", self._name)
                self._warned_of_shape = True
            return self._eager(*inputs)
        for static, tensor in zip(self._inputs, tensors, strict=True):
            static.copy_(tensor)
        assert self._replay is not None
        self._replay()
        return self._numbers

    def _capture(self, inputs: tuple) -> bool:
        tensors, structure = tree_flatten(inputs)
        self._inputs: list[Tensor] = [tensor.clone() for tensor in tensors]
        error, static = "", tree_unflatten(self._inputs, structure)
        try:
            self._replay, self._numbers = self._recorder.record(lambda: self._eager(*static))
        except RuntimeError as failure:
            cause = failure.__context__ or failure  # ending a capture that broke fails too
            error = str(cause).splitlines()[0]
        errors = [line for line in self._world.gather_objects(error) if line]
        if errors:
            self.release()
            log.warning("no CUDA graph (%s): each %s runs eagerly", errors[0], self._name)
            return False
        log.info("the %s is one CUDA graph from here on", self._name)
        return True

    def release(self) -> None:
        """Drop the graph, which holds on to the ranks' communicator; from here on steps run eagerly."""
        self._replay, self._failed = None, True


def hold_learning_rate_on(device: torch.device, optimizer: torch.optim.Optimizer) -> None:
    """Move the optimizer's rates to the device, where a captured step reads them and the epoch's rate is filled in."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device).clone()
