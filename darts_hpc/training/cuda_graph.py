"""The whole search step as one CUDA graph: both passes and both optimizers, replayed without Python."""

import logging

import torch
from torch import Tensor

from darts_hpc.config.train_search import SearchRuntimeConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.fused import FusedSuperNet
from darts_hpc.search.architect import Architect
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.training.compile import compile_modules
from darts_hpc.training.precision import choose_precision, memory_format
from darts_hpc.training.rollback import Rollback
from darts_hpc.training.search_step import SearchStep, StepNumbers, search_step

log = logging.getLogger(__name__)

WARM_UP_STEPS = 3
"""Eager steps before the capture: optimizers make their state, cuDNN and the allocator settle. They are real steps."""


def build_search_step(
    supernet: RelaxedNetwork,
    architect: Architect,
    optimizer: torch.optim.SGD,
    *,
    grad_clip: float,
    world: World,
    cfg: SearchRuntimeConfig,
    perturb: str = "none",
) -> SearchStep:
    """Return the search's step in the number formats of `cfg`, as a CUDA graph where `cfg` says so and it is possible.

    `perturb` is --perturb; where alphas are held, or edges decided, steps run eagerly. Compiles the cells where `cfg`
    says so. A step that runs out of memory is rolled back. Sets torch's TF32 switches, and moves the
    optimizer's learning rate to the device for a graph.
    """
    precision, layout = choose_precision(cfg.precision, world.device), memory_format(cfg.channels_last)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.tf32
    if cfg.compile:
        compile_modules(supernet.cells, world.device)
    if isinstance(supernet, FusedSuperNet):
        log.info("the first steps compile Triton kernels: about a minute, unless Triton's cache holds them")

    def step(
        train: LabelledImages, valid: LabelledImages, conditions: Conditions | None = None, with_alphas: bool = True
    ) -> StepNumbers:
        return search_step(
            supernet, architect, optimizer, train, valid, grad_clip=grad_clip, world=world, precision=precision,
            conditions=conditions, perturb=perturb, with_alphas=with_alphas,
        )  # fmt: skip

    run: SearchStep = step
    if cfg.cuda_graph and world.device.type == "cuda":
        if reason := why_not_graph(world):
            log.warning("no CUDA graph: %s", reason)
        else:
            hold_learning_rate_on(world.device, optimizer)
            run = GraphedStep(step)

    def laid_out(batch: LabelledImages) -> LabelledImages:
        return batch[0].contiguous(memory_format=layout), *batch[1:]

    rollback, decay = Rollback(supernet, optimizer, architect), optimizer.param_groups[0]["weight_decay"]

    def run_or_roll_back(
        train: LabelledImages, valid: LabelledImages, conditions: Conditions | None = None, with_alphas: bool = True
    ) -> StepNumbers:
        nonlocal run, decay
        if isinstance(run, GraphedStep) and optimizer.param_groups[0]["weight_decay"] != decay:
            run, decay = GraphedStep(step), optimizer.param_groups[0]["weight_decay"]  # a constant in the graph
        with rollback:
            train, valid = laid_out(train), laid_out(valid)
            # a graph replays the architecture as it was captured: without decisions, and with steps of the alphas
            if with_alphas and not architect.architecture.has_decisions:
                return run(train, valid, conditions)
            return step(train, valid, conditions, with_alphas)

    return run_or_roll_back


def why_not_graph(world: World) -> str | None:
    """Return why steps on a GPU can't be captured, or None where they can."""
    if world.size > 1:
        return "the processes average their gradients in between"
    return None


class GraphedStep:
    """A step that runs eagerly at first, and from then on as a CUDA graph, which is the same computation.

    The first WARM_UP_STEPS steps run on a side stream, as a capture requires. A batch of another shape, and every step
    after a failed capture, runs eagerly; both are announced once. A capture executes nothing, so weights
    and alphas are as the last step left them.

    Args:
        step: (train, valid, conditions) -> numbers. It must not wait for the device, keeps its shapes, and reads its
            learning rates from the device (`hold_learning_rate_on`).
    """

    def __init__(self, step: SearchStep):
        self._eager: SearchStep = step
        self._stream = torch.cuda.Stream()
        self._steps_done = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._failed = self._warned_of_shape = False

    def __call__(
        self, train: LabelledImages, valid: LabelledImages, conditions: Conditions | None = None
    ) -> StepNumbers:
        """Run one step. The numbers are read before the next one, which overwrites them."""
        if self._failed:
            return self._eager(train, valid, conditions)
        if self._steps_done < WARM_UP_STEPS:
            self._steps_done += 1
            return self._on_side_stream(train, valid, conditions)
        if self._graph is None and not self._capture(train, valid, conditions):
            return self._eager(train, valid, conditions)
        inputs = _tensors(train, valid, conditions)
        if [tensor.shape for tensor in inputs] != [tensor.shape for tensor in self._inputs]:
            if not self._warned_of_shape:
                log.warning("a batch of another size: this step runs without the CUDA graph")
                self._warned_of_shape = True
            return self._eager(train, valid, conditions)
        for static, tensor in zip(self._inputs, inputs, strict=True):
            static.copy_(tensor)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _on_side_stream(
        self, train: LabelledImages, valid: LabelledImages, conditions: Conditions | None
    ) -> StepNumbers:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            numbers = self._eager(train, valid, conditions)
        torch.cuda.current_stream().wait_stream(self._stream)
        return numbers

    def _capture(self, train: LabelledImages, valid: LabelledImages, conditions: Conditions | None) -> bool:
        self._inputs = [tensor.clone() for tensor in _tensors(train, valid, conditions)]
        static_train, rest = tuple(self._inputs[: len(train)]), self._inputs[len(train) :]
        static_valid, rest = tuple(rest[: len(valid)]), rest[len(valid) :]
        static_conditions = None if conditions is None else conditions.with_tensors(rest)
        torch.cuda.empty_cache()  # the graph's memory is a pool of its own
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._eager(static_train, static_valid, static_conditions)
        except RuntimeError as error:
            self._failed = True
            torch.cuda.set_stream(stream)  # torch 2.11 leaves the capture's stream current
            cause = error.__context__ or error  # ending a capture that broke fails too
            log.warning("no CUDA graph (%s): steps run eagerly", str(cause).splitlines()[0])
            return False
        self._graph = graph
        log.info("the search step is one CUDA graph from here on")
        return True


def _tensors(train: LabelledImages, valid: LabelledImages, conditions: Conditions | None) -> list[Tensor]:
    return [*train, *valid, *([] if conditions is None else conditions.tensors())]


def hold_learning_rate_on(device: torch.device, optimizer: torch.optim.Optimizer) -> None:
    """Move the optimizer's rates to the device, where a captured step reads them and the epoch's rate is filled in."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device).clone()
