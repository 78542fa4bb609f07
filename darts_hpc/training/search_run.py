"""The epochs of a search: its schedules, its records, and when and how its cell is decided."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darts_hpc.config.train_search import SearchConfig, SearchModelConfig
from darts_hpc.data.imagenet.list.quarantine import Quarantine
from darts_hpc.data.loading.batches import Batch, Cycle, Loader
from darts_hpc.distributed.sync_batch_norm import average_running_statistics_
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.run.checkpoint import Checkpoint
from darts_hpc.run.recorder import prefixed
from darts_hpc.run.run import Run
from darts_hpc.search.architect import BETAS, Architect
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.curvature import largest_alpha_eigenvalue, start_vector
from darts_hpc.search.derive import derive_genotype
from darts_hpc.search.early_stop import EarlyStop
from darts_hpc.search.relaxations import Relaxation
from darts_hpc.search.schedule import epoch_conditions, schedules
from darts_hpc.search.selection import PerturbationSelection, random_orders
from darts_hpc.search.stop_rules import Stop
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.spaces import SearchSpace
from darts_hpc.training.loops import evaluate, score_batches, search_epoch
from darts_hpc.training.optim import set_learning_rate
from darts_hpc.training.precision import memory_format
from darts_hpc.training.schedule import search_learning_rate
from darts_hpc.training.search_step import SearchStep
from darts_hpc.training.snapshots import drop_all_snapshots, drop_snapshots, load_snapshot, save_snapshot

log = logging.getLogger(__name__)

TUNING_RATE = 0.1
"""DARTS-PT tunes at this constant fraction of --learning_rate: the reference never steps its cosine schedule."""
SIGMOID_BETAS = (0.9, 0.999)
"""Adam's for FairDARTS' gates."""


def build_search_supernet(
    form: str, cfg: SearchModelConfig, num_classes: int, space: SearchSpace, checkpoint_cells: bool, stem: str = "cifar"
) -> RelaxedNetwork:
    """Return the supernet that the flags ask for, in a form of SUPERNETS, with a stem of STEMS."""
    sizes = cfg.init_channels, cfg.layers, num_classes
    common: dict[str, Any] = {"checkpoint_cells": checkpoint_cells, "edge_norm": cfg.edge_norm, "stem": stem}
    if form == "plain":
        common |= {"space": space, "partial_channels": cfg.partial_channels}
        common["auxiliary_skip"] = cfg.auxiliary_skip != "none"
    return build_supernet(form, *sizes, **common)


def build_architect(
    cfg: SearchConfig, supernet: RelaxedNetwork, world: World, relaxation: Relaxation | None = None
) -> Architect:
    """Return the alphas' optimizer. FairDARTS' gates start at alpha 0. relaxation: a user's own, not --relaxation's."""
    arch = cfg.arch_optim
    if arch.relaxation == "sigmoid":
        with torch.no_grad():
            for alphas in supernet.alphas():
                alphas.zero_()
    architecture = Architecture(
        supernet,
        arch.relaxation if relaxation is None else relaxation,
        auxiliary_skip=cfg.model.auxiliary_skip != "none",
        drop_path=cfg.model.search_drop_path > 0,
    )
    return Architect(
        supernet,
        learning_rate=arch.arch_learning_rate,
        weight_decay=arch.arch_weight_decay,
        unrolled_method=arch.unrolled_method if arch.unrolled else None,
        world=world,
        architecture=architecture,
        regulariser=arch.alpha_regulariser,
        betas=SIGMOID_BETAS if arch.relaxation == "sigmoid" else BETAS,
    )


def build_selection(cfg: SearchConfig, architecture: Architecture, space: SearchSpace) -> PerturbationSelection | None:
    """Return the selection by perturbation, or None for that by magnitude."""
    if cfg.selection.selection != "perturbation":
        return None
    return PerturbationSelection(architecture, space, cfg.selection, *random_orders(cfg.run.seed, space))


class SearchData(NamedTuple):
    """The data of a search."""

    weights: Loader
    """Batches that train the weights."""
    alphas: Cycle
    """Batches that train the alphas."""
    valid: Loader
    """The alphas' images without augmentation."""
    num_classes: int
    digest: str
    """Digest of the data, which a checkpoint must match."""
    quarantine: Quarantine | None = None
    """Where damaged images are counted, if there may be some."""


@dataclass(frozen=True)
class Search:
    """A search that is set up, and what one of its epochs does."""

    cfg: SearchConfig
    world: World
    run: Run
    space: SearchSpace
    supernet: RelaxedNetwork
    optimizer: torch.optim.SGD
    architect: Architect
    early_stop: EarlyStop
    selection: PerturbationSelection | None
    step: SearchStep
    data: SearchData

    @property
    def architecture(self) -> Architecture:
        """Alphas and their relaxation."""
        return self.architect.architecture

    @property
    def is_tuning(self) -> bool:
        """Whether the search is over, and its cell is being selected."""
        return self.selection is not None and self.selection.first_epoch is not None

    def genotype(self) -> Genotype:
        """The cell by the magnitude rule, from the decided edges and the alphas."""
        return derive_genotype(self.architecture.strengths(), self.space)

    def run_epoch(self, epoch: int, state: dict[str, Any]) -> None:
        """Train an epoch, validate, record, and check whether the search is over. `state`: what checkpoints keep."""
        cfg, run = self.cfg, self.run
        if cfg.early_stop.early_stop == "adaptive" and self.early_stop.stop is not None:
            self._roll_back(state)
            return
        own_relaxation = self.architecture.relaxation == "own"
        conditions = epoch_conditions(cfg, epoch, self.world.device, own_relaxation)
        if self.is_tuning:
            self._select(epoch, conditions)
        learning_rate = self._learning_rate(epoch)
        set_learning_rate(self.optimizer, learning_rate)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.early_stop.weight_decay
        last_step: dict[str, Tensor] = {}
        train = search_epoch(
            self.supernet, self.step, self.optimizer, self.data.weights, self.data.alphas, run,
            cfg.runtime.replica_check, conditions=conditions, with_keys=self._needs_keys,
            with_alphas=self._moves_alphas(epoch), last_step=last_step,
        )  # fmt: skip
        mixing = self.architecture.mix_expected(None if conditions is None else conditions(run.global_step))
        average_running_statistics_(self.supernet, self.world)
        valid = evaluate(self.supernet, self.data.valid, run, memory_format=self._layout, mixing=mixing)
        if self.data.quarantine is not None:
            self.data.quarantine.join(self.world)
        validated = prefixed("valid", valid.compute(self.world))
        eigenvalue = self._eigenvalue(epoch, conditions)
        if cfg.early_stop.early_stop != "none":  # a stop rule must not decide by NaN
            run.check_finite(validated | ({} if eigenvalue is None else {"eigenvalue": eigenvalue}))
        genotype = self.genotype()
        numbers = {
            **prefixed("train", train.compute(self.world)),
            **validated,
            "learning_rate": learning_rate,
            **alpha_numbers(self.architecture, None if conditions is None else conditions(run.global_step)),
            "skip_connects": genotype.num_skip_connects,
            **({} if eigenvalue is None else {"eigenvalue": eigenvalue}),
            **self._scheduled(epoch),
            **{name: value.item() for name, value in last_step.items()},
        }
        if not self.is_tuning:
            self._apply_stop_rule(epoch, genotype, eigenvalue, state)
            numbers |= {} if eigenvalue is None else self.early_stop.numbers()
        run.finish_epoch(numbers, genotype)

    def begin_selection(self, searched: Checkpoint, state: Mapping[str, Any]) -> None:
        """Take the supernet of a finished search, and go on as after its last epoch."""
        assert self.selection is not None
        with searched.restoring():
            saved = searched.load("state", self.world.device)
            for name in ("supernet", "optimizer", "architect", "early_stop"):  # the last has the weight decay
                if name in state:
                    state[name].load_state_dict(saved["objects"][name])
            at = saved["position"]
            self.run.epoch = self.selection.first_epoch = int(at["epoch"])
            self.run.steps_taken_back = int(at.get("steps_taken_back", 0))
        self.run.num_epochs = self.run.epoch + self.selection.num_epochs

    def result(self) -> tuple[Genotype, dict[str, Tensor]]:
        """Return the cell, and the architecture's parameters that it was derived from."""
        parameters = {name: tensor.detach().cpu() for name, tensor in self.architecture.named().items()}
        drop_all_snapshots(self.run.folder, self.world.rank)
        if self.selection is None and self.early_stop.stop is not None:
            parameters = self.early_stop.parameters[self.early_stop.stop.epoch]
            with torch.no_grad():
                for name, tensor in self.architecture.named().items():
                    tensor.copy_(parameters[name])
            self.run.record_genotype("selected", self.genotype())
        return self.genotype(), parameters

    def why_it_stopped(self, stop: Stop) -> str:
        """Return in words why the search stopped, and where its cell is from."""
        if self.selection is None:
            return f"{stop.why}: the cell is that of epoch {stop.epoch + 1}"
        return f"{stop.why}: the cell is selected by perturbation from the supernet of then"

    @property
    def _layout(self) -> torch.memory_format:
        return memory_format(self.cfg.runtime.channels_last)

    @property
    def _needs_keys(self) -> bool:
        return self.space.has("noise") or self.cfg.model.search_drop_path > 0

    def _moves_alphas(self, epoch: int) -> bool:
        warm = epoch >= self.cfg.arch_optim.alpha_warmup_epochs or self.is_tuning
        return warm and self.cfg.arch_optim.arch_learning_rate > 0

    def _learning_rate(self, epoch: int) -> float:
        optim = self.cfg.optim
        if self.is_tuning:
            return TUNING_RATE * optim.learning_rate
        return search_learning_rate(epoch, self.cfg.run.epochs, optim)

    def _scheduled(self, epoch: int) -> dict[str, float]:
        """Return the values of the schedules that this search uses, by name."""
        cfg, numbers = self.cfg, schedules(self.cfg, epoch)
        used = {
            "tau": cfg.arch_optim.relaxation == "gumbel",
            "epsilon": cfg.optim.perturb != "none",
            "auxiliary_share": cfg.model.auxiliary_skip != "none",
            "regulariser_weight": cfg.arch_optim.alpha_regulariser != "none",
            "drop_path": cfg.model.search_drop_path > 0,
        }
        return {f"schedule/{name}": numbers[name] for name, is_used in used.items() if is_used}

    def _eigenvalue(self, epoch: int, conditions: Any) -> float | None:
        """Return the largest eigenvalue on the epoch's last batch of the alphas; None where it is not due."""
        if self.is_tuning or not self.early_stop.is_due(epoch):
            return None
        batch = self.data.alphas.batch(self.run.global_step - 1)
        self.supernet.train()
        value = largest_alpha_eigenvalue(
            self.supernet, self.architecture, batch if self._needs_keys else batch[:2],
            None if conditions is None else conditions(self.run.global_step),
            weight_decay=self.cfg.arch_optim.arch_weight_decay, world=self.world,
            start=start_vector(self.cfg.run.seed, epoch, self.architecture.alphas()),
        )  # fmt: skip
        return value.item()

    def _apply_stop_rule(self, epoch: int, genotype: Genotype, eigenvalue: float | None, state: dict[str, Any]) -> None:
        """Record the epoch for the stop rule; end the search, or begin the selection, where it is over."""
        self.early_stop.add(epoch, genotype, self.architecture.named(), eigenvalue)
        if keep := self.early_stop.epochs_to_keep:
            save_snapshot(self.run.folder, epoch, state, self.world.rank)
            drop_snapshots(self.run.folder, epoch - keep, self.world.rank)
        stop = self.early_stop.stop
        if stop is not None and self.cfg.early_stop.early_stop != "adaptive":
            log.info("the search ends: %s", self.why_it_stopped(stop))
            self.run.num_epochs = epoch + 1
        if epoch + 1 == self.run.num_epochs and self.selection is not None:
            self.selection.first_epoch = epoch + 1
            self.run.num_epochs += self.selection.num_epochs

    def _roll_back(self, state: dict[str, Any]) -> None:
        """Go back to the epoch before the rise, and continue with more weight decay (DARTS-ADA)."""
        stop = self.early_stop.stop
        assert stop is not None
        history = {name: part for name, part in state.items() if name not in ("early_stop", "selection")}
        epoch = self.early_stop.roll_back()
        load_snapshot(self.run.folder, epoch, history, self.world)
        decay = self.early_stop.weight_decay
        log.info("%s: going back to epoch %d, and on with a weight decay of %g", stop.why, epoch + 1, decay)
        self.run.go_back(epoch + 1, self.data.weights.steps_per_epoch)
        self.run.record("roll_back", {"weight_decay": decay})
        self.run.save()

    def _select(self, epoch: int, conditions: Any) -> None:
        """Take the decision that is due before an epoch of tuning, if any."""
        selection = self.selection
        assert selection is not None
        if self.run.step or not selection.is_due(epoch):
            return
        now: Conditions | None = None if conditions is None else conditions(self.run.global_step)
        for decision in selection.decide(
            lambda mixing: score_batches(self.supernet, self._scored_batches(), mixing, self.world, self._layout), now
        ):
            what = decision.operation or "kept"
            log.info("%s cell, edge %s: %s", decision.kind, ", ".join(map(str, decision.edges)), what)
            accuracies = [score.accuracy for score in decision.scores]
            losses = [score.loss for score in decision.scores]
            self.run.check_finite({"valid/loss without an operation or an edge": losses})  # nothing is decided by NaN
            self.run.record(
                "selection",
                {
                    "cell": decision.kind, "edges": list(decision.edges), "operation": decision.operation,
                    "accuracy_without": accuracies, "loss_without": losses,
                },
            )  # fmt: skip

    def _scored_batches(self) -> Iterator[Batch]:
        """Yield the validation batches that a decision is scored on: of all images, each counted once."""
        source, before = self.data.valid, None
        for number, batch in enumerate(islice(source.batches(0), self.cfg.selection.pt_batches), start=1):
            if number < source.steps_per_epoch:
                batches = [before, batch]
            else:
                batches = share_last_batch(before, batch, self.world)
            yield from filter(None, batches[:-1])
            before = batches[-1]
            self.run.stop_if_asked()
        if before is not None:
            yield before


def share_last_batch(before: Batch | None, last: Batch, world: World) -> list[Batch | None]:
    """Return the last two batches such that BatchNorm, which can't do with one image, normalises each rank's.

    A single image joins the batch before it, as on one process. Of a few that don't go round every rank gets all, which
    BatchNorm over all ranks then normalises as one process does, but for rank 0 without labels: they count once.
    """
    sizes = world.gather_objects(len(last.labels))
    if sum(sizes) == 1 and before is not None:
        return [Batch(*(torch.cat(pair) for pair in zip(before, last, strict=True)))]
    if min(sizes) > 1 or world.size == 1:
        return [before, last]
    first, joined = sum(sizes[: world.rank]), []
    for own in last:
        whole = own.new_zeros(sum(sizes), *own.shape[1:])
        whole[first : first + len(own)] = own
        joined.append(world.sum(whole))
    images, labels, keys = joined
    return [before, Batch(images, labels if world.is_main else labels[:0], keys)]


def alpha_numbers(architecture: Architecture, conditions: Conditions | None = None) -> dict[str, Any]:
    """Return the weights that the alphas give operations, their mean entropy per edge, and the edges' weights."""
    weights, numbers = architecture.operation_weights(conditions), {}
    for kind, entropy in architecture.entropies(weights).items():
        numbers[f"alphas/{kind}"] = weights[kind].cpu().tolist()
        numbers[f"entropy/{kind}"] = entropy
    numbers |= {f"edge_weights/{kind}": weights.tolist() for kind, weights in architecture.edge_weights().items()}
    return numbers
