"""Train the network of a found cell, from its first epoch to its result: what train and train_imagenet share."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.loading.batches import Loader
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_, synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.models.state_dicts import export_original
from darts_hpc.run.choose_folder import check_run_folder
from darts_hpc.run.fingerprint import fingerprint
from darts_hpc.run.recorder import prefixed
from darts_hpc.run.run import Run
from darts_hpc.space.genotypes import NOTES, load_genotype
from darts_hpc.training.compile import compile_modules
from darts_hpc.training.data_parallel import start_alike
from darts_hpc.training.loops import StepConfig, evaluate, train_epoch
from darts_hpc.training.optim import MomentumByName, build_sgd_of, choose_optimizer_impl, set_learning_rate
from darts_hpc.training.precision import Precision, choose_precision, memory_format
from darts_hpc.training.seeding import seed_everything, settings_restored
from darts_hpc.training.training_step import build_forward, build_training_step, can_graph
from darts_hpc.training.weight_average import WeightAverage

log = logging.getLogger("darts_hpc")


class TrainingData(NamedTuple):
    """The data of a training."""

    train: Loader
    eval: Loader
    eval_name: str
    """Which images the network is evaluated on: test or valid."""
    stem: str
    """Stem of the network, a key of models.stems.STEMS."""
    image_size: int
    classes: tuple[str, ...]
    digest: str
    """Digest of the data, which a checkpoint must match."""
    preprocessing: Mapping[str, object]
    """How an image is prepared for the network, besides its size; for result.json."""
    quarantine: Quarantine | None = None
    """Where damaged images are counted, if there may be some."""


class StepForm(Protocol):
    """The form of a step that fits into memory."""

    @property
    def checkpoint_cells(self) -> bool:
        """Whether cells are computed once more in backward."""
        ...


def train_network(
    entry: str,
    cfg: TrainConfig | ImageNetConfig,
    config_yaml: str,
    open_data: Callable[[World], TrainingData],
    learning_rate: Callable[[int], float],
    fit_memory: Callable[[World], AbstractContextManager[tuple[StepForm, str]]],
) -> Path:
    """Train the derived network, and return its run folder. The last epoch's accuracy is the result.

    Args:
        entry: name of the entry point.
        config_yaml: `cfg`, as the run folder keeps it.
        open_data: called on every rank, once flags and run folder are known to be good.
        learning_rate: epoch (0-based) -> rate.
        fit_memory: called on every rank before the data are opened; it gives the form of the step and why, raises
            ValueError where none fits, and explains an out-of-memory error of what runs in its context.

    Raises:
        ValueError: a user's mistake, in one line; Diverged, a subclass, where numbers are no longer finite.
    """
    with World.open(cfg.run.device, cfg.run.gpu) as world, settings_restored(cfg.runtime.compile), ExitStack() as stack:
        genotype = load_genotype(cfg.model.arch)
        step_cfg = step_config(cfg, world)
        asked = cfg.runtime.precision
        precision = Precision(choose_precision(asked, world.device), world.device, reports_skipped=asked != "fp32")
        optimizer_impl = choose_optimizer_impl(cfg.optim.optimizer_impl, world.device)
        check_run_folder(cfg.run, world)
        fitting, why = stack.enter_context(fit_memory(world))
        data = open_data(world)
        if data.train.steps_per_epoch < step_cfg.accumulate:
            raise ValueError(
                f"--global_batch_size {cfg.optim.global_batch_size} is more than the {data.train.num_samples} images "
                "of an epoch; lower it"
            )
        seed_everything(cfg.run.seed, cfg.run.deterministic)
        model = cfg.model
        plain = DerivedNetwork(
            data.stem, model.init_channels, len(data.classes), model.layers, model.auxiliary, genotype
        )
        costs = measure_costs(plain, data.image_size)
        plain.cells.checkpoint_cells = fitting.checkpoint_cells
        network, form, _ = choose_network(model.network, plain.to(world.device), world.device)
        del plain
        network.to(memory_format=step_cfg.memory_format)
        if cfg.runtime.sync_bn:
            synchronise_batch_norm(network, world, once_differentiable=True)
        optimizer = build_sgd_of(optimizer_impl, network.parameters(), cfg.optim)
        if cfg.runtime.compile:
            compile_modules(network.cells, world.device)
        start_alike(network, world)
        average = WeightAverage(network, cfg.optim.ema) if cfg.optim.ema else None
        tested = network if average is None else average.network
        state = {"network": network, "optimizer": MomentumByName(optimizer, network), "precision": precision}
        if average is not None:
            state["average"] = average.network
        chosen = {
            "arch": genotype.to_dict(),
            "network": form,
            "precision": precision.name,
            "optimizer_impl": optimizer_impl,
            "global_batch_size": step_cfg.batch_size * step_cfg.accumulate * world.size,
        }
        with Run.open(entry, cfg.run, config_yaml, fingerprint(cfg, data.digest, **chosen), world) as run:
            if run.is_fresh:
                run.record_genotype("before_first_epoch", genotype)
            if note := NOTES.get(model.arch):
                log.warning("--arch %s: %s", model.arch, note)
            log.info("%s", why)
            averaged = f", weights averaged by {cfg.optim.ema}" if average is not None else ""
            log.info("%s; %s%s", costs, describe(chosen, step_cfg, world), averaged)
            as_graph = can_graph(cfg.runtime.cuda_graph, optimizer_impl, world.device)
            if as_graph:  # which has operations for drop path from its first step on, or never
                network.set_drop_path(model.drop_path_prob)
            training_step = build_training_step(
                network, optimizer, data.train, step_cfg, precision, run.meter, world, average, as_graph=as_graph
            )
            forward = build_forward(tested, world, as_graph=as_graph)
            for epoch in run.epochs(state):
                rate = learning_rate(epoch)
                set_learning_rate(optimizer, rate)
                network.set_drop_path(model.drop_path_prob * epoch / cfg.run.epochs)
                train = train_epoch(
                    network, optimizer, data.train, training_step, step_cfg, precision, run,
                    cfg.runtime.replica_check, average,
                )  # fmt: skip
                for own in dict.fromkeys((network, tested)):  # in this order on every rank
                    average_running_statistics_(own, world)
                numbers = prefixed("train", train.compute(world))
                if cfg.run.is_evaluated(epoch):
                    evaluated = evaluate(tested, data.eval, run, precision, step_cfg.memory_format, forward=forward)
                    numbers |= prefixed(data.eval_name, evaluated.compute(world))
                if data.quarantine is not None:
                    data.quarantine.join(world)
                run.finish_epoch({**numbers, "learning_rate": rate})
            preprocessing = {
                "image_size": data.image_size,
                "classes": list(data.classes),
                "channels": "RGB, (B, 3, H, W), scaled to 0..1, then normalised",
                **data.preprocessing,
            }
            facts = {"genotype": genotype.to_dict(), "genotype_text": str(genotype), **costs._asdict()}
            run.finish({**facts, "preprocessing": preprocessing}, {"weights.pt": export_original(tested)})
    return run.folder


def step_config(cfg: TrainConfig | ImageNetConfig, world: World) -> StepConfig:
    """Return how a step uses its batches. Raises ValueError when they can't make the global batch."""
    together = cfg.data.batch_size * world.size
    wanted = cfg.optim.global_batch_size or together
    if wanted % together:
        share, rest = divmod(wanted, world.size)
        fitting = max((size for size in range(1, cfg.data.batch_size + 1) if share % size == 0), default=1)
        way_out = f"a number of processes that divides {wanted}" if rest else f"--batch_size {fitting}"
        raise ValueError(
            f"--global_batch_size {wanted} is no multiple of --batch_size {cfg.data.batch_size} times {world.size} "
            f"processes; take {way_out}"
        )
    return StepConfig(
        batch_size=cfg.data.batch_size,
        accumulate=wanted // together,
        auxiliary_weight=cfg.model.auxiliary_weight,
        label_smooth=cfg.optim.label_smooth,
        grad_clip=cfg.optim.grad_clip,
        memory_format=memory_format(cfg.runtime.channels_last),
    )


def describe(chosen: Mapping[str, Any], step_cfg: StepConfig, world: World) -> str:
    """Return the form of the network, the number format, optimizer and batch size of a run, in words."""
    processes = f"{world.size} process{'es' if world.size > 1 else ''}"
    return (
        f"{chosen['network']} network, {chosen['precision']}, {chosen['optimizer_impl']} SGD, "
        f"{chosen['global_batch_size']} images per step: "
        f"{processes} x {step_cfg.batch_size} images x {step_cfg.accumulate}"
    )
