"""Time a few steps of a search or a training on made-up images: what they take on this machine."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import torch

from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import Batch, BatchSource
from darts_hpc.data.loading.sources import eval_batch_size
from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan import AnyStep, MemoryPlan, plan_search
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.run.metrics import Meter
from darts_hpc.search.curvature import largest_alpha_eigenvalue, start_vector
from darts_hpc.search.schedule import epoch_conditions
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.training.cuda_graph import WARM_UP_STEPS
from darts_hpc.training.loops import evaluate
from darts_hpc.training.optim import build_sgd, build_sgd_of, choose_optimizer_impl
from darts_hpc.training.precision import Precision, choose_precision, memory_format
from darts_hpc.training.search_run import build_architect, build_search_supernet
from darts_hpc.training.search_step import build_search_step
from darts_hpc.training.train_network import step_config
from darts_hpc.training.training_step import build_forward, build_training_step, can_graph
from darts_hpc.training.weight_average import WeightAverage

FEW = 8
"""Images of the batch that is tried first on a CPU."""
LONGEST = 1.0
"""Seconds: where FEW images take longer, a multiple of their time stands for that of a whole batch."""
ENOUGH = 0.5
"""Seconds for which steps are repeated, at least twice."""

Timed = TypeVar("Timed")


class Times(NamedTuple):
    """What was timed of a kind of job, in seconds."""

    batch_size: int
    """Images of a step."""
    step: float
    eval_batch_size: int
    evaluation: float
    """Of one batch of the evaluation."""
    eigenvalue: float
    """Of one measurement of the curvature; 0 where there is none."""
    start: float
    """Of building the network, and of the memory check."""


Setup = Callable[[int, int, float], tuple[float, float, float]]
"""(images of a batch, of one of the evaluation, seconds that are enough) -> seconds of a step, of a batch of the
evaluation, of an eigenvalue."""


def time_steps(cfg: SearchConfig | TrainConfig | ImageNetConfig, facts: DatasetFacts, world: World) -> Times:
    """Return the times of a run on images of these sizes; without --compile, and without ImageNet's loader.

    Raises MemoryError where the run would refuse its step, and ValueError for flags that it would refuse.
    """
    begin = time.perf_counter()
    batch_size, accumulate = cfg.data.batch_size, 1
    if isinstance(cfg, SearchConfig):
        run, valid_size = _search(cfg, facts, world), batch_size
    else:
        accumulate = step_config(cfg, world).accumulate
        run = _training(cfg, facts, world)
        own = cfg.data.valid_batch_size if isinstance(cfg, ImageNetConfig) else None
        valid_size = own or eval_batch_size(batch_size, world.device)
    start = time.perf_counter() - begin
    if world.device.type == "cpu" and batch_size > FEW:
        step, evaluation, eigenvalue = run(FEW, FEW, 0.0)
        if step > LONGEST:  # less may be the overhead of many small operations, which is the same for any batch
            more = batch_size / FEW
            times = more * step, valid_size, valid_size / FEW * evaluation, more * eigenvalue
            return Times(accumulate * batch_size, *times, start)
    step, evaluation, eigenvalue = run(batch_size, valid_size, ENOUGH)
    return Times(accumulate * batch_size, step, valid_size, evaluation, eigenvalue, start)


def _fitting(plan: MemoryPlan[AnyStep], check: str) -> AnyStep:
    """Return the form of the step that a run takes. Raises MemoryError where it would refuse."""
    form, line = plan.choose(check)
    if form is None:
        raise MemoryError(line)
    return form


def _search(cfg: SearchConfig, facts: DatasetFacts, world: World) -> Setup:
    space, layout = SPACES[cfg.model.space], memory_format(cfg.runtime.channels_last)
    form = _fitting(plan_search(cfg, facts, world), cfg.memory.memory_check)
    supernet = build_search_supernet(
        form.supernet, cfg.model, facts.num_classes, space, form.checkpoint_cells, cfg.stem
    ).to(world.device)
    supernet = supernet.to(memory_format=layout)
    optimizer = build_sgd(supernet.weights(), cfg.optim, fused=True)
    architect = build_architect(cfg, supernet, world)
    step = build_search_step(
        supernet, architect, optimizer, grad_clip=cfg.optim.grad_clip, world=world,
        cfg=replace(cfg.runtime, compile=False), perturb=cfg.optim.perturb,
    )  # fmt: skip
    at = epoch_conditions(cfg, cfg.run.epochs - 1, world.device)
    conditions = None if at is None else at(0)
    parts = 3 if space.has("noise") or cfg.model.search_drop_path else 2
    mixing = architect.architecture.mix_expected(conditions)

    def run(batch_size: int, valid_size: int, enough: float) -> tuple[float, float, float]:
        train, valid = _made_up(cfg, facts, batch_size, world), _made_up(cfg, facts, valid_size, world, change=False)

        def one_step() -> None:
            supernet.train()
            batches = (train.batch(0, 0)[:parts] for _ in range(2))
            step(*batches, conditions, cfg.arch_optim.arch_learning_rate > 0)

        def curvature() -> None:
            supernet.train()
            start = start_vector(0, 0, architect.architecture.alphas())
            largest_alpha_eigenvalue(
                supernet, architect.architecture, train.batch(0, 0)[:parts], conditions, world=world,
                weight_decay=cfg.arch_optim.arch_weight_decay, start=start,
            )  # fmt: skip

        return (
            _seconds(one_step, enough, world),
            _seconds(lambda: evaluate(supernet, valid, memory_format=layout, mixing=mixing), enough, world),
            _seconds(curvature, 0.0, world) if form.eigenvalue else 0.0,
        )

    return run


def _training(cfg: TrainConfig | ImageNetConfig, facts: DatasetFacts, world: World) -> Setup:
    model, step_cfg = cfg.model, step_config(cfg, world)
    form = _fitting(plan_training(cfg, facts, world), cfg.memory.memory_check)
    plain = DerivedNetwork(
        form.stem, model.init_channels, facts.num_classes, model.layers, model.auxiliary, load_genotype(model.arch)
    )
    plain.cells.checkpoint_cells = form.checkpoint_cells
    network, _, _ = choose_network(model.network, plain.to(world.device), world.device)
    network = network.to(memory_format=step_cfg.memory_format)
    network.set_drop_path(model.drop_path_prob)
    optimizer_impl = choose_optimizer_impl(cfg.optim.optimizer_impl, world.device)
    optimizer = build_sgd_of(optimizer_impl, network.parameters(), cfg.optim)
    precision = Precision(choose_precision(cfg.runtime.precision, world.device), world.device)
    average = WeightAverage(network, cfg.optim.ema) if cfg.optim.ema else None
    tested = network if average is None else average.network
    as_graph = can_graph(cfg.runtime.cuda_graph, optimizer_impl, world.device)

    def run(batch_size: int, valid_size: int, enough: float) -> tuple[float, float, float]:
        train, valid = _made_up(cfg, facts, batch_size, world), _made_up(cfg, facts, valid_size, world, change=False)
        loader = _Ready(train.batch(0, 0), world) if isinstance(cfg, ImageNetConfig) else train
        step = build_training_step(
            network, optimizer, loader, replace(step_cfg, batch_size=batch_size), precision, Meter(world.device), world,
            average, as_graph=as_graph,
        )  # fmt: skip
        forward = build_forward(tested, world, as_graph=as_graph)
        batches = (next(step.batches(0, 0)) for _ in repeat(None))

        def one_step() -> None:
            network.train()
            step.take(batches)

        def one_evaluation() -> None:
            evaluate(tested, valid, None, precision, step_cfg.memory_format, forward=forward)

        return _seconds(one_step, enough, world), _seconds(one_evaluation, enough, world), 0.0

    return run


class _Ready:
    """A loader whose only batch is there."""

    num_samples = steps_per_epoch = 1

    def __init__(self, batch: Batch, world: World):
        self._batch, self.device = batch, world.device

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batch."""
        yield self._batch


def _made_up(cfg: Any, facts: DatasetFacts, batch_size: int, world: World, *, change: bool = True) -> BatchSource:
    """Return a source of one batch, augmented as in training or left as it is."""
    shape = batch_size, 3, facts.image_size, facts.image_size
    part = ImageSet(
        torch.randint(256, shape, dtype=torch.uint8), torch.arange(batch_size) % facts.num_classes
    )  # fmt: skip
    half = (0.5, 0.5, 0.5)
    data = DataSet(
        name="made up", classes=tuple(map(str, range(facts.num_classes))), train=part, test=part, mean=half, std=half,
        crop_padding=4, flip=True,
    )  # fmt: skip
    cutout = cfg.data.cutout_length if getattr(cfg.data, "cutout", False) else 0
    return BatchSource(
        data, part, batch_size=batch_size, seed=0, device=world.device, shuffle=change,
        augmentation=Augmentation(4, True, cutout) if change else None,
    )  # fmt: skip


def _seconds(work: Callable[[], Timed], enough: float, world: World) -> float:
    """Return the median time of work once it is warm; of the first call where that takes longer than LONGEST."""
    warm = WARM_UP_STEPS + 2 if world.device.type == "cuda" else 1
    taken: list[float] = []
    while len(taken) < warm + 2 or sum(taken[warm:]) < enough:
        begin = time.perf_counter()
        work()
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        taken.append(time.perf_counter() - begin)
        if taken[-1] > LONGEST:
            break
    return statistics.median(taken[warm:] or taken[-1:])
