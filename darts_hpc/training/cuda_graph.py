"""The whole search step as one CUDA graph: both passes and both optimizers, replayed without Python."""

import logging

import torch
from torch import Tensor

from darts_hpc.config.train_search import SearchRuntimeConfig
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.fast.fused import FusedSuperNet
from darts_hpc.search.architect import Architect
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
) -> SearchStep:
    """Return the search's step in the number formats of `cfg`, as a CUDA graph where that is asked for and possible.

    Compiles the cells where `cfg` says so. A step that runs out of memory is taken back (Rollback). Sets torch's TF32
    switches, and moves the optimizer's learning rate to the device for a graph.
    """
    precision, layout = choose_precision(cfg.precision, world.device), memory_format(cfg.channels_last)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.tf32
    if cfg.compile:
        compile_modules(supernet.cells, world.device)
    if isinstance(supernet, FusedSuperNet):
        log.info("the first steps compile Triton kernels: about a minute, unless Triton's cache holds them")

    def step(train: LabelledImages, valid: LabelledImages) -> StepNumbers:
        return search_step(
            supernet, architect, optimizer, train, valid, grad_clip=grad_clip, world=world, precision=precision
        )

    run: SearchStep = step
    if cfg.cuda_graph and world.device.type == "cuda":
        if reason := why_not_graph(world):
            log.warning("no CUDA graph: %s", reason)
        else:
            hold_learning_rate_on(world.device, optimizer)
            run = GraphedStep(step)

    def laid_out(batch: LabelledImages) -> LabelledImages:
        return batch[0].contiguous(memory_format=layout), batch[1]

    rollback = Rollback(supernet, architect, optimizer)

    def whole(train: LabelledImages, valid: LabelledImages) -> StepNumbers:
        with rollback:
            return run(laid_out(train), laid_out(valid))

    return whole


def why_not_graph(world: World) -> str | None:
    """Return why steps on a GPU can't be captured, or None where they can."""
    if world.size > 1:
        return "the processes average their gradients in between"
    return None


class GraphedStep:
    """A step that runs eagerly at first, and from then on as a CUDA graph, which is the same computation.

    The first WARM_UP_STEPS steps run on a side stream, as a capture asks for. A batch of another shape, and every step
    after a failed capture, runs eagerly; both are announced once. A capture executes nothing, so weights
    and alphas are as the last step left them.

    Args:
        step: (train, valid) -> numbers. It must not wait for the device, must keep its shapes, and reads its learning
            rates from the device (`hold_learning_rate_on`).
    """

    def __init__(self, step: SearchStep):
        self._eager: SearchStep = step
        self._stream = torch.cuda.Stream()
        self._steps_done = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._failed = self._told_shape = False

    def __call__(self, train: LabelledImages, valid: LabelledImages) -> StepNumbers:
        """Run one step. The numbers are read before the next one, which overwrites them."""
        if self._failed:
            return self._eager(train, valid)
        if self._steps_done < WARM_UP_STEPS:
            self._steps_done += 1
            return self._on_side_stream(train, valid)
        batches = (*train, *valid)
        if self._graph is None and not self._capture(batches):
            return self._eager(train, valid)
        if [tensor.shape for tensor in batches] != [tensor.shape for tensor in self._inputs]:
            if not self._told_shape:
                log.warning("a batch of another size: this step runs without the CUDA graph")
                self._told_shape = True
            return self._eager(train, valid)
        for static, tensor in zip(self._inputs, batches, strict=True):
            static.copy_(tensor)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _on_side_stream(self, train: LabelledImages, valid: LabelledImages) -> StepNumbers:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            numbers = self._eager(train, valid)
        torch.cuda.current_stream().wait_stream(self._stream)
        return numbers

    def _capture(self, batches: tuple[Tensor, ...]) -> bool:
        self._inputs = tuple(tensor.clone() for tensor in batches)
        torch.cuda.empty_cache()  # the graph's memory is a pool of its own
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._eager((self._inputs[0], self._inputs[1]), (self._inputs[2], self._inputs[3]))
        except RuntimeError as error:
            self._failed = True
            torch.cuda.set_stream(stream)  # torch 2.11 leaves that of the capture
            cause = error.__context__ or error  # ending a capture that broke fails too
            log.warning("no CUDA graph (%s): steps run eagerly", str(cause).splitlines()[0])
            return False
        self._graph = graph
        log.info("the search step is one CUDA graph from here on")
        return True


def hold_learning_rate_on(device: torch.device, optimizer: torch.optim.Optimizer) -> None:
    """Move the optimizer's rates to the device, where a captured step reads them and the epoch's rate is filled in."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device).clone()
