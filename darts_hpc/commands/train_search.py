"""Search a cell (the original train_search.py): python -m darts_hpc.train_search [--unrolled]."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from darts_hpc.config.combinations import check_space, remarks
from darts_hpc.config.idle_flags import idle_notes, random_cell_note
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.train_search import SearchConfig, SearchDataConfig
from darts_hpc.data.imagenet.load import open_search
from darts_hpc.data.loading.batches import BatchSource, Cycle
from darts_hpc.data.loading.sources import eval_source, training_source
from darts_hpc.data.loading.split import search_split
from darts_hpc.data.loading.streamed import StreamedSource
from darts_hpc.data.sets.folder import open_stream
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.load import dataset_facts, load_dataset
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.memory.explain import choose_form, explaining_out_of_memory
from darts_hpc.memory.plan import MemoryPlan, plan_search
from darts_hpc.models.state_dicts import export_original
from darts_hpc.run.checkpoint import Checkpoint
from darts_hpc.run.choose_folder import check_run_folder
from darts_hpc.run.fingerprint import fingerprint
from darts_hpc.run.run import Run
from darts_hpc.search.collapse import collapse_line, presets_to_try
from darts_hpc.search.early_stop import EarlyStop
from darts_hpc.search.relaxations import LABELS, Relaxation
from darts_hpc.space.spaces import SPACES, SearchSpace
from darts_hpc.training.optim import MomentumByName, build_sgd
from darts_hpc.training.precision import choose_precision, memory_format
from darts_hpc.training.search_run import (
    Search,
    SearchData,
    build_architect,
    build_search_supernet,
    build_selection,
)
from darts_hpc.training.search_step import build_search_step
from darts_hpc.training.seeding import seed_everything, settings_restored

log = logging.getLogger("darts_hpc")


def search_sources(
    data: DataSet, cfg: SearchDataConfig, seed: int, world: World, *, sampled: bool = False
) -> tuple[BatchSource, BatchSource, BatchSource]:
    """Return the batches that train the weights, those that train the alphas, and the latter's images unchanged.

    `sampled`: the first of these unchanged batches are to be a random sample of them.
    """
    weight_ids, alpha_ids = search_split(data.train.labels, cfg.train_portion, seed, cfg.split)
    return (
        training_source(data, cfg, seed, world, weight_ids),
        training_source(data, cfg, seed, world, alpha_ids),
        eval_source(data, data.train, cfg.batch_size, seed, world, alpha_ids, shuffle=sampled),
    )


def open_imagenet(cfg: SearchConfig, world: World) -> tuple[SearchData, DatasetFacts]:
    """Return shares of ImageNet's training images, which are read batch by batch, and how large they are."""
    sampled, images = cfg.selection.pt_batches is not None, cfg.imagenet()
    shares = cfg.data.weight_share, cfg.data.alpha_share
    data = open_search(images, *shares, cfg.run.seed, world, sampled=sampled)
    num_images, classes = data.weights.num_samples + data.alphas.num_samples, len(data.classes)
    facts = DatasetFacts(num_images, 0, images.image_size, classes, in_memory=False)
    opened = SearchData(data.weights, Cycle(data.alphas), data.valid, classes, data.digest, data.quarantine)
    return opened, facts


def open_folder_stream(cfg: SearchConfig, world: World) -> SearchData:
    """Return the same batches as open_in_memory of --dataset folder, read from its files step by step."""
    data, read, digest = open_stream(cfg.data.data, cfg.data.image_size or 0, world)
    sampled = cfg.selection.pt_batches is not None
    sources = search_sources(data, cfg.data, cfg.run.seed, world, sampled=sampled)
    weights, alphas, valid = (StreamedSource(source, read) for source in sources)
    return SearchData(weights, Cycle(alphas), valid, data.num_classes, digest)


def open_in_memory(cfg: SearchConfig, world: World, data: DataSet | None = None) -> SearchData:
    """Return the images of the two halves, --dataset's or those of `data`, on the device."""
    if data is None:
        data = load_dataset(cfg.data.dataset, cfg.data.data, image_size=cfg.data.image_size, world=world)
    data = data.to(world.device)
    sampled = cfg.selection.pt_batches is not None
    weights, alphas, valid = search_sources(data, cfg.data, cfg.run.seed, world, sampled=sampled)
    return SearchData(weights, Cycle(alphas), valid, data.num_classes, data.fingerprint())


def plan_with_data(
    cfg: SearchConfig, world: World, space: SearchSpace, data: DataSet | None
) -> tuple[MemoryPlan, Callable[[], SearchData]]:
    """Return the plan of a step beside its images, and what opens these: in memory unless they are too many."""
    if data is not None:
        return plan_search(cfg, data.facts(), world, space), partial(open_in_memory, cfg, world, data)
    if cfg.data.dataset == "imagenet":
        opened, facts = open_imagenet(cfg, world)
        return plan_search(cfg, facts, world, space), lambda: opened
    facts = dataset_facts(cfg.data.dataset, cfg.data.data, cfg.data.image_size)
    plan = plan_search(cfg, facts, world, space)
    if cfg.data.dataset == "folder":
        streamed = plan_search(cfg, facts._replace(in_memory=False), world, space)
        matters = world.is_main and cfg.memory.memory_check == "auto"
        if world.broadcast_object(matters and not plan.fits_at_all() and streamed.fits_at_all()):
            why = "the images would not fit beside a step, and are read step by step"
            streamed.fallback = f"{streamed.fallback}; {why}" if streamed.fallback else why
            return streamed, partial(open_folder_stream, cfg, world)
    return plan, partial(open_in_memory, cfg, world)


def main(
    cfg: SearchConfig,
    space: SearchSpace | None = None,
    relaxation: Relaxation | None = None,
    begin_at: Checkpoint | None = None,
    data: DataSet | None = None,
) -> Path:
    """Run a search from its first epoch, or its newest checkpoint, to the genotype; return its folder.

    Args:
        space: the candidates of the edges, instead of --space.
        relaxation: how alphas weigh them, instead of --relaxation; the magnitude rule compares softmax(alpha).
        begin_at: what a finished search left, from whose supernet the cell is selected, without a search of its own.
        data: the images, instead of --dataset's.
    """
    own_space, space = space is not None, SPACES[cfg.model.space] if space is None else space
    check_space(cfg, space)
    with World.open(cfg.run.device, cfg.run.gpu) as world, settings_restored(cfg.runtime.compile), ExitStack() as stack:
        precision = choose_precision(cfg.runtime.precision, world.device)
        layout = memory_format(cfg.runtime.channels_last)
        check_run_folder(cfg.run, world)
        plan, open_data = plan_with_data(cfg, world, space, data)
        form, why = choose_form(plan, cfg.memory.memory_check, world)
        stack.enter_context(explaining_out_of_memory(plan))
        opened = open_data()
        seed_everything(cfg.run.seed, cfg.run.deterministic)
        size = opened.num_classes, space, form.checkpoint_cells, cfg.stem
        supernet = build_search_supernet(form.supernet, cfg.model, *size)
        supernet = supernet.to(world.device).to(memory_format=layout)
        if cfg.runtime.sync_bn:
            synchronise_batch_norm(supernet, world)
        world.broadcast_([weight.detach() for weight in supernet.weights()])
        optimizer = build_sgd(supernet.weights(), cfg.optim, fused=True)
        architect = build_architect(cfg, supernet, world, relaxation)
        early_stop = EarlyStop(
            cfg.early_stop, cfg.run.epochs, cfg.optim.weight_decay, cfg.arch_optim.alpha_warmup_epochs
        )
        selection = build_selection(cfg, architect.architecture, space)
        state = {"supernet": supernet, "optimizer": MomentumByName(optimizer, supernet), "architect": architect}
        if selection is not None:
            state |= {"selection": selection, "architecture": architect.architecture}
        if cfg.early_stop.early_stop != "none":
            state["early_stop"] = early_stop
        config_yaml = to_yaml(cfg, "python -m darts_hpc.train_search")
        own: dict[str, object] = {"space": f"{space.name}, {space.digest()}"} if own_space else {}
        if relaxation is not None:
            own["relaxation"] = getattr(relaxation, "__qualname__", type(relaxation).__name__)
        agreed = fingerprint(cfg, opened.digest, precision=precision, **own)
        columns: dict[str, object] = {**space.to_dict()}
        if (label := LABELS.get(architect.architecture.relaxation)) is not None:
            columns["weights"] = label
        if begin_at is not None and begin_at.fingerprint.get("data_digest") != opened.digest:
            raise ValueError(
                f"{begin_at.path.parent.parent}: its supernet was trained on other images than are there now; bring "
                "them back, or search anew"
            )
        with Run.open("train_search", cfg.run, config_yaml, agreed, world, columns) as run:
            for line in (why, *remarks(cfg)):
                log.info("%s", line)
            for line in idle_notes(cfg, space):
                log.warning("%s", line)
            step = build_search_step(
                supernet, architect, optimizer, grad_clip=cfg.optim.grad_clip, world=world, cfg=cfg.runtime,
                perturb=cfg.optim.perturb,
            )  # fmt: skip
            search = Search(
                cfg, world, run, space, supernet, optimizer, architect, early_stop, selection, step, opened
            )  # fmt: skip
            if run.is_fresh and begin_at is not None:
                search.begin_selection(begin_at, state)
            if run.is_fresh:
                run.record_genotype("before_first_epoch", search.genotype())
            for epoch in run.epochs(state):
                search.run_epoch(epoch, state)
            genotype, parameters = search.result()
            log.info("genotype = %s", genotype)
            collapse = collapse_line(genotype, space, presets_to_try(cfg))
            log.info("%s", collapse)
            if note := random_cell_note(cfg):
                log.warning("%s", note)
            facts = {"genotype": genotype.to_dict(), "genotype_text": str(genotype), "collapse": collapse}
            if early_stop.stop is not None:
                facts["early_stop"] = search.why_it_stopped(early_stop.stop)
            run.finish(facts, {"weights.pt": export_original(supernet), "alphas.pt": parameters})
    return run.folder
