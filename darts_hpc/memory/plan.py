"""Predict whether a step fits into memory, and choose the form of the step to run."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from darts_hpc.config.shared import MemoryConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.available import FreeMemory, free_memory
from darts_hpc.memory.predict import METHODS, Step
from darts_hpc.memory.predict_training import TrainingStep
from darts_hpc.memory.trace import CUDA_BLOCK
from darts_hpc.models.supernet.build import choose_supernet
from darts_hpc.space.spaces import SPACES, SearchSpace
from darts_hpc.training.precision import choose_precision
from darts_hpc.units import parse_bytes, readable_bytes

AnyStep = TypeVar("AnyStep", Step, TrainingStep)
LOADERS = 3
"""Of a search: for the weights, for the alphas, for validation. Each reads ahead."""
MOST = 2**20
"""Largest batch size and number of channels that are looked for."""


class MemoryPlan(Generic[AnyStep]):
    """The memory that each form of a step needs, and what is free.

    Recomputing cells computes the same, so it needs no flag. Another gradient method of a search, or a smaller batch,
    would be another run.

    Args:
        step: the step as the flags set it.
        batch_size, init_channels: of the run.
        free: the memory that a step may use.
        block: bytes that the allocator rounds a tensor up to.
        fallback: why the network has another form than asked for, if so.
        variants: the steps that a table compares besides, in its order; left out, the step alone.
    """

    def __init__(
        self,
        step: AnyStep,
        *,
        batch_size: int,
        init_channels: int,
        free: FreeMemory,
        block: int = 1,
        fallback: str | None = None,
        variants: Sequence[AnyStep] | None = None,
    ):
        self.variants = [step] if variants is None else variants
        self.step, self.free, self.fallback = step, free, fallback
        self.batch_size, self.init_channels, self.block = batch_size, init_channels, block

    def needed_bytes(self, step: AnyStep) -> int:
        """Return the bytes that a form of the step needs."""
        return step.needed_bytes(self.batch_size, self.init_channels, self.block)

    def fits(self, step: AnyStep) -> bool:
        """Whether a form of the step fits into the free memory."""
        return self.needed_bytes(step) <= self.free.num_bytes

    def fits_at_all(self) -> bool:
        """Whether any form of the step fits."""
        return any(map(self.fits, self.forms()))

    def forms(self) -> list[AnyStep]:
        """Every form of the step that is the same computation, the fastest first."""
        return [self.step] if self.step.checkpoint_cells else [self.step, replace(self.step, checkpoint_cells=True)]

    def choose(self, check: str) -> tuple[AnyStep | None, str]:
        """Return the form to run and a line that says why; no form where none fits. `check` is --memory_check."""
        form, line = self._choose(check)
        remark = "" if check == "off" else self.step.remark(self.batch_size, self.init_channels, self.block)
        return form, "; ".join(filter(None, (self.fallback, line, remark)))

    def _choose(self, check: str) -> tuple[AnyStep | None, str]:
        if check == "off":
            return self.step, "the step's memory is not checked (--memory_check off)"
        needed = readable_bytes(self.needed_bytes(self.step))
        source = f"{self.free.source} {readable_bytes(self.free.num_bytes)}"
        if self.fits(self.step):
            return self.step, f"a step takes {needed} ({self.step.title}); {source}"
        short = f"a step needs {needed} ({self.step.title}) and {source}"
        if check == "warn":
            return self.step, f"{short}: it may run out of memory"
        for form in self.forms()[1:]:
            if self.fits(form):
                found = readable_bytes(self.needed_bytes(form))
                return form, f"{short}: recomputing cells in backward (--checkpoint_cells), which takes {found}"
        return None, f"{short}; {self.way_out()}"

    def way_out(self) -> str:
        """Return the flags that would fit, in words."""
        form = self.forms()[-1]
        batch_size, init_channels = self.largest(form)
        while init_channels and form.needed_bytes(self.batch_size, init_channels, self.block) > self.free.num_bytes:
            fewer = init_channels - form.channel_multiple
            init_channels = min(self._scale_channels(form, init_channels), fewer)  # an estimate was too large
        ways = [f"--batch_size {batch_size}"] * (batch_size > 0) + [f"--init_channels {init_channels}"] * (
            init_channels > 0
        )
        return f"{' or '.join(ways)} would fit" if ways else "not even one image would fit"

    def largest(self, step: AnyStep) -> tuple[int, int]:
        """Return the largest batch size and even number of channels that fit, all else equal; 0 for none.

        The channels are an estimate where each number of them would need a trace of its own.
        """
        batch_size = step.usable_batch(
            _largest(lambda size: step.needed_bytes(size, self.init_channels, self.block) <= self.free.num_bytes)
        )
        if not step.scales_with_channels:
            return batch_size, self._scale_channels(step, self.init_channels)
        pairs = _largest(lambda half: step.needed_bytes(self.batch_size, 2 * half, self.block) <= self.free.num_bytes)
        return batch_size, 2 * pairs

    def _scale_channels(self, step: AnyStep, init_channels: int) -> int:
        """Return the number of channels that fits if memory grows linearly with them, as nearly all of it does."""
        needed = step.needed_bytes(self.batch_size, init_channels, self.block)
        return (
            int(min(self.free.num_bytes * init_channels / needed, step.most_channels or MOST))
            // step.channel_multiple
            * step.channel_multiple
        )


def plan_search(
    cfg: SearchConfig, facts: DatasetFacts, world: World, space: SearchSpace | None = None
) -> MemoryPlan[Step]:
    """Return the plan of a search in a space, --space by default. Every rank calls it."""
    space = SPACES[cfg.model.space] if space is None else space
    sync_bn = cfg.runtime.sync_bn and world.size > 1
    torch_only = None
    if sync_bn:
        torch_only = "do not support BatchNorm over several processes"
    elif cfg.runtime.compile:
        torch_only = "are not operations of torch, which --compile needs"
    chosen = choose_supernet(
        cfg.model.supernet,
        world.device,
        cfg.model.init_channels,
        num_nodes=space.num_nodes,
        primitives=space.primitives,
        torch_only=torch_only,
        plain_only=why_plain(cfg),
    )
    # where one rank falls back, all do
    form, fallback = next((choice for choice in world.gather_objects(chosen) if choice[1]), chosen)
    step = Step(
        supernet=form,
        checkpoint_cells=cfg.model.checkpoint_cells,
        unrolled_method=cfg.arch_optim.unrolled_method if cfg.arch_optim.unrolled else None,
        layers=cfg.model.layers,
        num_classes=facts.num_classes,
        image_size=facts.image_size,
        num_images=facts.num_train + facts.num_test if facts.in_memory else 0,
        batches_ahead=0 if facts.in_memory else LOADERS * cfg.reading.prefetch,
        stem=cfg.stem,
        space=space,
        partial_channels=cfg.model.partial_channels,
        edge_norm=cfg.model.edge_norm,
        auxiliary_skip=cfg.model.auxiliary_skip != "none",
        relaxation=cfg.arch_optim.relaxation,
        perturb=cfg.optim.perturb,
        drop_path=cfg.model.search_drop_path > 0,
        eigenvalue=cfg.early_stop.record_eigenvalue or cfg.early_stop.early_stop in ("eigenvalue", "adaptive"),
        sync_bn=sync_bn,
        precision=choose_precision(cfg.runtime.precision, world.device),
        optim=cfg.optim,
        device=world.device.type,
        cuda_graph=cfg.runtime.cuda_graph and world.device.type == "cuda",
    )
    return MemoryPlan(
        step,
        batch_size=cfg.data.batch_size,
        init_channels=cfg.model.init_channels,
        free=memory_to_use(cfg.memory, world),
        block=CUDA_BLOCK if world.device.type == "cuda" else 1,
        fallback=fallback,
        variants=[replace(step, unrolled_method=method) for method in METHODS],
    )


def why_plain(cfg: SearchConfig) -> str | None:
    """Return why a search needs the plain supernet, as "does not support ...", or None."""
    if cfg.model.partial_channels > 1:
        return "does not support --partial_channels"
    if cfg.model.auxiliary_skip != "none":
        return "does not support --auxiliary_skip"
    if cfg.model.search_drop_path:
        return "does not support --search_drop_path"
    if cfg.arch_optim.relaxation == "gumbel":
        return "does not support --relaxation gumbel, which runs one operation per edge"
    return None


def memory_to_use(cfg: MemoryConfig, world: World) -> FreeMemory:
    """Return the memory that a step may use: --memory_limit, or what is free on the rank with the least."""
    if cfg.memory_limit is not None:
        return FreeMemory(parse_bytes(cfg.memory_limit), "--memory_limit allows")
    machine = platform.node()
    processes = world.gather_objects(machine).count(machine)
    return min(world.gather_objects(free_memory(world.device, processes)), key=lambda free: free.num_bytes)


def _largest(fits: Callable[[int], bool]) -> int:
    """Return the largest n up to MOST that fits; 0 where not even 1 does."""
    low, high = 0, 1
    while high <= MOST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
