"""A run: its position in the data, how it saves, stops and resumes."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.config.shared import RunConfig
from darts_hpc.distributed.stop_consensus import StopConsensus
from darts_hpc.distributed.world import World
from darts_hpc.errors import Diverged, RolledBack, Stopped
from darts_hpc.locks import lock_run_folder
from darts_hpc.run.checkpoint import (
    Checkpoint,
    CheckpointStore,
    read_checkpoint,
    save_atomically,
    write_text_atomically,
)
from darts_hpc.run.choose_folder import choose_run_folder, folder_request, write_launch
from darts_hpc.run.fingerprint import Fingerprint, check_fingerprint
from darts_hpc.run.finite import FirstBadStep, first_not_finite, first_number_not_finite
from darts_hpc.run.folder import check_files, described, logging_to, write_description
from darts_hpc.run.heartbeat import Heartbeat
from darts_hpc.run.interrupt import Interrupt, name_of
from darts_hpc.run.metrics import Meter
from darts_hpc.run.performance import peak_memory_bytes
from darts_hpc.run.rank_state import load_rank_state, rank_state, saved_rank_state
from darts_hpc.run.recorder import ESTIMATE_AFTER, Recorder, has_records
from darts_hpc.run.requeue import request_requeue
from darts_hpc.space.genotypes import Genotype

log = logging.getLogger(__name__)

POSITION = ("epoch", "step", "global_step", "steps_taken_back", "num_epochs")
"""What a checkpoint keeps of where the run is."""
LOWER = {"search": "--learning_rate or --arch_learning_rate", "training": "--learning_rate"}
"""Flags to lower against divergence."""


class Run:
    """One run, from its first step to its last, over any number of interruptions. Made by Run.open.

    Args:
        entry: name of the entry point, such as train_search.
        folder: where everything goes.
        cfg: length and reports.
        fingerprint: what a checkpoint must agree with to be continued here.
        world: the processes of the run.
        newest: the checkpoint to go on from.
        recorder: of records, log lines and the progress bar.
        interrupt: of the signals that ask for a stop.
        description: what the run is, by file name; written again at the end where that is gone.

    Attributes:
        epoch: the epoch under way, 0-based.
        num_epochs: of the run; a search may end before the epochs of its flags, or go on after them.
        step: steps done in this epoch.
        global_step: steps done in the whole run.
        meter: training numbers of this epoch so far.
    """

    def __init__(
        self,
        entry: str,
        folder: Path,
        cfg: RunConfig,
        fingerprint: Fingerprint,
        world: World,
        newest: Checkpoint | None,
        recorder: Recorder,
        interrupt: Interrupt,
        description: Mapping[str, str],
    ):
        self.entry, self.folder, self.cfg, self.fingerprint, self.world = entry, folder, cfg, fingerprint, world
        self.epoch = self.step = self.global_step = self.steps_taken_back = 0
        self.num_epochs = cfg.epochs
        self.meter = Meter(world.device)
        self._first_bad_step = FirstBadStep(world.device)
        self.recorder, self.window = recorder, recorder.window
        self._newest, self._checkpoints = newest, CheckpointStore(folder / "checkpoints")
        self._interrupt, self._consensus = interrupt, StopConsensus(world)
        self._description, self._own_folder = description, folder.stat() if world.is_main else None
        self._state: Mapping[str, Any] = {}
        self._first_step = self._total_steps = 0

    @classmethod
    @contextmanager
    def open(
        cls,
        entry: str,
        cfg: RunConfig,
        config_yaml: str,
        fingerprint: Fingerprint,
        world: World,
        space: Mapping[str, Any] | None = None,
    ) -> "Iterator[Run]":
        """Begin a run, or go on with one, in a folder that no other process uses meanwhile.

        Args:
            entry: name of the entry point, such as train_search.
            cfg: length, folder and reports.
            config_yaml: the whole configuration, kept as config.yaml.
            fingerprint: what a checkpoint must agree with to be continued here.
            world: the processes of the run.
            space: a search's candidate operations, as space.json holds them.

        Raises ValueError when the folder is in use or can't be written, or its checkpoint is of another configuration.
        """
        machine = {"world_size": world.size, "torch": torch.__version__, "device_type": world.device.type}
        fingerprint = replace(fingerprint, values={**fingerprint.values, **machine})
        with ExitStack() as stack:
            request = folder_request(fingerprint, world)
            chosen = choose_run_folder(entry, cfg.save, cfg.resume, request) if world.is_main else (Path(), False)
            folder, goes_on = world.broadcast_object(chosen)
            if world.is_main:
                stack.enter_context(lock_run_folder(folder))
                check_files(folder)
            world.barrier()
            stack.enter_context(logging_to(folder, world.rank))
            newest = _newest_of_all(folder, world) if goes_on else None
            if newest is not None:
                check_fingerprint(newest.fingerprint, fingerprint)
            description = described(config_yaml, str(world.device), world.size, space) if world.is_main else {}
            try:
                if world.is_main:
                    write_launch(folder, request)
                    write_description(folder, description)
                recorder = stack.enter_context(Recorder.open(folder, cfg, world, newest, space))
            except OSError as error:
                raise ValueError(
                    f"can't write to the run folder {folder} ({error}); choose another with --save"
                ) from None
            interrupt = stack.enter_context(Interrupt())
            run = cls(entry, folder, cfg, fingerprint, world, newest, recorder, interrupt, description)
            log.info("run folder: %s", folder)
            if world.device.type == "cpu":
                log.warning("no GPU in use: a CPU is slow; how slow follows after %d steps", ESTIMATE_AFTER)
            try:
                yield run
            except BaseException as error:
                run._explain(error)
                raise

    @property
    def is_fresh(self) -> bool:
        """Whether the run starts here, and does not go on from a checkpoint."""
        return self._newest is None

    def epochs(self, state: Mapping[str, Any]) -> Iterator[int]:
        """Yield the epochs still to do, after restoring `state` where the run is resumed.

        `state` names everything with state_dict and load_state_dict on which the rest of the run depends.
        """
        self._state = state
        self.recorder.start_clock()
        if self._newest is not None:
            self._restore(self._newest)
        self._first_step = self.global_step
        while self.epoch < self.num_epochs:
            yield self.epoch

    def go_back(self, epoch: int, steps_per_epoch: int) -> None:
        """Go on with an earlier epoch. The global step counts on, so that records and checkpoints stay in order."""
        self.steps_taken_back += (self.epoch - epoch) * steps_per_epoch
        self.epoch, self.step = epoch, 0

    def steps(self, steps_per_epoch: int) -> Iterator[int]:
        """Yield the steps still to do in this epoch. After a step, stop cleanly if asked, or save if due."""
        before = self.steps_taken_back + self.epoch * steps_per_epoch
        self._total_steps = self.steps_taken_back + self.num_epochs * steps_per_epoch
        self.global_step = before + self.step
        progress = self.recorder.progress(
            self.epoch, self.num_epochs, steps_per_epoch, total=self._total_steps, before=before, done=self.step
        )
        with progress, Heartbeat(silent=not self.world.is_main) as heartbeat:
            for step in range(self.step, steps_per_epoch):
                heartbeat.begin(f"step {step + 1} of {steps_per_epoch} in epoch {self.epoch + 1}")
                self.global_step = before + step
                yield step
                self.step = step + 1
                self.global_step += 1
                self.recorder.count_step(self._total_steps - self.global_step)
                self.stop_if_asked()
                if (
                    self.cfg.checkpoint_freq
                    and self.step % self.cfg.checkpoint_freq == 0
                    and self.step < steps_per_epoch
                ):
                    self.save()
            self.check_steps()
            if self.window.images:
                self.recorder.performance(self.epoch, self.global_step)

    def report_step(
        self, optimizer: torch.optim.Optimizer, numbers: Mapping[str, Tensor], num_images: int, finite: Tensor
    ) -> None:
        """Record this epoch's averages, the rate and `numbers` (0-d, on the device), every report_freq steps.

        `finite`, a bool on the device, says whether the run can go on from this step. Raises Diverged, at the next
        report, where it can't.
        """
        self.window.add(num_images)
        self._first_bad_step.add(self.step + 1, finite)
        if (self.step + 1) % self.cfg.report_freq:
            return
        self.check_steps()
        train = self.meter.compute(self.world)
        rate = {"learning_rate": float(optimizer.param_groups[0]["lr"])}
        read = {name: value.item() for name, value in numbers.items()}
        self.recorder.step(self.epoch, self.global_step + 1, self._total_steps, train, {**rate, **read})

    def finish_epoch(self, numbers: Mapping[str, Any], genotype: Genotype | None = None) -> None:
        """Record an epoch's numbers and its genotype, move on to the next epoch, and save.

        Raises Diverged, and records nothing, where a number is not finite; a training loss may be in fp16.
        """
        self.check_finite(numbers)
        self.recorder.epoch(self.epoch, self.num_epochs, self.global_step, numbers)
        if genotype is not None:
            self.record_genotype("epoch_end", genotype)
        self.epoch, self.step = self.epoch + 1, 0
        self.meter.reset()
        self.save()

    def record(self, event: str, numbers: Mapping[str, Any]) -> None:
        """Append an event to metrics.jsonl."""
        self.recorder.event(event, self.epoch, self.global_step, numbers)

    def record_genotype(self, when: str, genotype: Genotype) -> None:
        """Append the current cell to genotypes.jsonl and draw it for TensorBoard."""
        self.recorder.genotype(self.epoch, self.global_step, when, genotype)

    def stop_if_asked(self) -> None:
        """After a signal to any rank, save and raise Stopped; every rank does so at the same place.

        Every rank calls this equally often. Several ranks stop one call later, when all know of it.
        """
        asked = self._consensus.post(self._interrupt.requested)
        if asked:
            self._consensus.wait()
            saved = self.save()
            if self.world.is_main:
                done = self.global_step - self._first_step
                request_requeue(self.folder, self.global_step, steps_done=done, saved=saved)
            outcome = "saved" if saved else "NOT saved, the last checkpoint stands"
            line = f"stopped by {name_of(asked)} in epoch {self.epoch + 1} after {self.step} steps, {outcome}"
            raise Stopped(asked, self.folder, line)

    def check_finite(self, numbers: Mapping[str, Any]) -> None:
        """Raise Diverged where a number, a step or anything that is saved is not finite. Every rank calls it."""
        checked = {name: value for name, value in numbers.items() if not name.startswith("train/")}
        if name := first_number_not_finite(checked):
            raise self._diverged(f"{name} is not finite after step {self.step}")
        self._finite_objects()

    def check_steps(self) -> None:
        """Raise Diverged if a step of this epoch was not finite. Every rank calls it; waits for the device."""
        if first := self._first_bad_step.read(self.world):
            raise self._diverged(f"the loss or a gradient is not finite in step {first}")

    def _finite_objects(self) -> dict[str, Any]:
        """Return the state dicts of all that is saved. Raises Diverged where a step or they are not finite."""
        self.check_steps()
        objects = {name: part.state_dict() for name, part in self._state.items()}
        if found := [name for name in self.world.gather_objects(first_not_finite(objects)) if name]:
            raise self._diverged(f"{found[0]} is not finite after step {self.step}")
        return objects

    def _diverged(self, what: str) -> Diverged:
        word = "search" if self.entry == "train_search" else "training"
        return Diverged(
            f"the {word} diverged: {what} of epoch {self.epoch + 1}; its last checkpoint, if there is one, is from "
            f"before that. Start afresh with a lower {LOWER[word]}"
        )

    def _save_rolled_back(self) -> bool:
        try:
            return self.world.size == 1 and self.save()  # other ranks are still in the step, and can't answer
        except Diverged as error:
            log.error("%s", error)
            return False

    def save(self) -> bool:
        """Write a checkpoint. Where the disk is full or the like, that is logged, and the last good one stays.

        Raises Diverged, and writes nothing, where a step or anything to be saved is not finite; ValueError where the
        run folder is gone.
        """
        objects = self._finite_objects()
        ranks, meter = self.world.gather_objects(rank_state(self._state, self.world)), self.world.sum(self.meter.totals)
        if not self.world.is_main:
            return True
        self._check_folder()
        try:
            state = {
                "objects": objects,
                "position": {name: getattr(self, name) for name in POSITION},
                "meter": meter,
                **self.recorder.state_dict(),
            }
            payloads = {"state": state} | {f"rank{rank}": own for rank, own in enumerate(ranks)}
            self._checkpoints.save(self.global_step, payloads, self.fingerprint.values)
        except OSError as error:
            log.error("could not save a checkpoint (%s); the last good one stays, and the run goes on", error)
            return False
        return True

    def finish(self, result: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write tensors by file name, then result.json, which marks the run as finished."""
        if not self.world.is_main:
            return
        self.recorder.finish(self.global_step)
        facts = {
            "entry": self.entry,
            "name": self.folder.name,
            "status": "finished",
            "epochs": self.epoch,
            "final": self.recorder.final,
            "best": self.recorder.best,
            "seconds": round(self.recorder.seconds, 1),
            "peak_memory_bytes": peak_memory_bytes(self.world.device),
            "device": str(self.world.device),
        }
        self._check_folder()
        try:
            write_description(self.folder, self._description, only_missing=True)
            digests = {name: save_atomically(self.folder / name, dict(tensors)) for name, tensors in files.items()}
            text = strict_json.dumps({**facts, **result, "files": digests}, indent=1) + "\n"
            write_text_atomically(self.folder / "result.json", text)
        except OSError as error:
            raise ValueError(
                f"the run is done, but its result could not be written ({error}); free some space, then "
                f"{self._resume_hint()}"
            ) from None

    def _check_folder(self) -> None:
        """Raise ValueError where the run folder was removed or moved: a new one in its place would be half a run."""
        try:
            is_there = os.path.samestat(self.folder.stat(), self._own_folder or self.folder.stat())
        except FileNotFoundError:
            is_there = False
        except OSError:  # a file server that is away for a moment
            return
        if not is_there:
            raise ValueError(
                f"the run folder {self.folder} was removed or moved while the run went on, which ends it; go on from "
                "where you moved it, by --resume, or start afresh"
            )

    def _restore(self, newest: Checkpoint) -> None:
        with newest.restoring():
            state = newest.load("state", self.world.device)
            own = saved_rank_state(newest, state["objects"], self._state, self.world)
            for name, part in self._state.items():
                part.load_state_dict(state["objects"][name])
            load_rank_state(own, self._state, self.world)
            for name in state["position"].keys() & POSITION:
                setattr(self, name, int(state["position"][name]))
            if self.world.is_main:  # the sum over ranks, so one of them has it all
                self.meter.totals.copy_(state["meter"])
            self.recorder.load_state_dict(state)
        log.info("going on in epoch %d after step %d, from %s", self.epoch + 1, self.step, newest.path)

    def _explain(self, error: BaseException) -> None:
        """Log what ends the run, and how to resume it; a user's mistake is printed by the entry."""
        if isinstance(error, Stopped):
            log.info("%s; go on with: %s", error, self._resume_hint())
        elif isinstance(error, RolledBack):
            saved = self._save_rolled_back()
            log.error(
                "out of memory in epoch %d after %d steps, %s; go on, with less, with: %s",
                self.epoch + 1, self.step, "saved" if saved else "the last checkpoint stands", self._resume_hint(),
            )  # fmt: skip
        elif not isinstance(error, ValueError):
            log.error("failed: %s: %s", type(error).__name__, error)

    def _resume_hint(self) -> str:
        return f"the same command with --save {self.folder}/ --resume auto"


def _newest_of_all(folder: Path, world: World) -> Checkpoint | None:
    """Return the checkpoint that all ranks go on from: the newest one whose records are all there, else the newest."""
    newest = None
    if world.is_main:
        newest = CheckpointStore(folder / "checkpoints").load_newest(partial(has_records, folder))
    path = world.broadcast_object(newest.path if newest is not None else None)
    return newest if world.is_main or path is None else read_checkpoint(path)
