"""Time a few steps of a search or a training on made-up images: what they take on this machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import torch

from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import Batch, BatchSource
from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan import plan_search
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.run.metrics import Meter
from darts_hpc.search.curvature import largest_alpha_eigenvalue, start_vector
from darts_hpc.search.schedule import epoch_conditions
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.training.cuda_graph import WARM_UP_STEPS
from darts_hpc.training.loops import StepConfig, evaluate, train_step
from darts_hpc.training.optim import build_sgd, build_sgd_of, choose_optimizer_impl
from darts_hpc.training.precision import Precision, choose_precision, memory_format
from darts_hpc.training.search_run import build_architect, build_search_supernet
from darts_hpc.training.search_step import build_search_step
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
    step: float
    evaluation: float
    """Of one batch."""
    eigenvalue: float
    """Of one measurement of the curvature; 0 where there is none."""
    start: float
    """Of building the network, and of the memory check."""


Setup = Callable[[int, float], tuple[float, float, float]]
"""(batch size, seconds that are enough) -> seconds of a step, of a batch of the evaluation, of an eigenvalue."""


def time_steps(cfg: SearchConfig | TrainConfig | ImageNetConfig, facts: DatasetFacts, world: World) -> Times:
    """Return the times of a run on images of these sizes; without --compile, and without ImageNet's loader."""
    begin = time.perf_counter()
    run = _search(cfg, facts, world) if isinstance(cfg, SearchConfig) else _training(cfg, facts, world)
    start = time.perf_counter() - begin
    batch_size = cfg.data.batch_size
    if world.device.type == "cpu" and batch_size > FEW:
        few = run(FEW, 0.0)
        if few[0] > LONGEST:  # less may be the overhead of many small operations, which is the same for any batch
            step, evaluation, eigenvalue = (batch_size / FEW * seconds for seconds in few)
            return Times(batch_size, step, evaluation, eigenvalue, start)
    return Times(batch_size, *run(batch_size, ENOUGH), start)


def _search(cfg: SearchConfig, facts: DatasetFacts, world: World) -> Setup:
    space, layout = SPACES[cfg.model.space], memory_format(cfg.runtime.channels_last)
    plan = plan_search(cfg, facts, world)
    if cfg.memory.memory_check != "off":
        plan.needed_bytes(plan.step)
    supernet = build_search_supernet(
        plan.step.supernet, cfg.model, facts.num_classes, space, cfg.model.checkpoint_cells, cfg.stem
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

    def run(batch_size: int, enough: float) -> tuple[float, float, float]:
        train, valid = _made_up(cfg, facts, batch_size, world)

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
            _seconds(curvature, 0.0, world) if plan.step.eigenvalue else 0.0,
        )

    return run


def _training(cfg: TrainConfig | ImageNetConfig, facts: DatasetFacts, world: World) -> Setup:
    model, layout = cfg.model, memory_format(cfg.runtime.channels_last)
    plan = plan_training(cfg, facts, world)
    if cfg.memory.memory_check != "off":
        plan.needed_bytes(plan.step)
    plain = DerivedNetwork(
        plan.step.stem, model.init_channels, facts.num_classes, model.layers, model.auxiliary,
        load_genotype(model.arch),
    )  # fmt: skip
    plain.cells.checkpoint_cells = model.checkpoint_cells
    network, _, _ = choose_network(model.network, plain.to(world.device), world.device)
    network = network.to(memory_format=layout)
    network.set_drop_path(model.drop_path_prob)
    optimizer = build_sgd_of(
        choose_optimizer_impl(cfg.optim.optimizer_impl, world.device), network.parameters(), cfg.optim
    )
    precision = Precision(choose_precision(cfg.runtime.precision, world.device), world.device)
    weights, meter = list(network.parameters()), Meter(world.device)
    average = WeightAverage(network, cfg.optim.ema) if cfg.optim.ema else None

    def run(batch_size: int, enough: float) -> tuple[float, float, float]:
        train, valid = _made_up(cfg, facts, batch_size, world)
        batches = (train.batch(0, 0) for _ in repeat(None))
        if isinstance(cfg, ImageNetConfig):
            batches = repeat(Batch(*train.batch(0, 0)))
        step_cfg = StepConfig(
            batch_size=batch_size, auxiliary_weight=model.auxiliary_weight, label_smooth=cfg.optim.label_smooth,
            grad_clip=cfg.optim.grad_clip, memory_format=layout,
        )  # fmt: skip

        def one_step() -> None:
            network.train()
            train_step(network, optimizer, batches, step_cfg, precision, weights, meter, world)
            if average is not None:
                average.update()

        return (
            _seconds(one_step, enough, world),
            _seconds(lambda: evaluate(network, valid, None, precision, layout), enough, world),
            0.0,
        )

    return run


def _made_up(cfg: Any, facts: DatasetFacts, batch_size: int, world: World) -> tuple[BatchSource, BatchSource]:
    """Return sources of one batch: augmented as in training, and unchanged."""
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
    common: dict[str, Any] = {"batch_size": batch_size, "seed": 0, "device": world.device}
    augmented = BatchSource(data, part, augmentation=Augmentation(4, True, cutout), shuffle=True, **common)
    return augmented, BatchSource(data, part, **common)


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
