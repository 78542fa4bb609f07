"""A run: its folder, its position in the data, what it records, and how it stops and goes on."""

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.config.shared import RunConfig
from darts_hpc.distributed.launcher import is_restart, job_name, launch_time
from darts_hpc.distributed.stop_consensus import StopConsensus
from darts_hpc.distributed.world import World
from darts_hpc.errors import RolledBack
from darts_hpc.locks import lock_run_folder
from darts_hpc.run.checkpoint import CheckpointStore, check_fingerprint, save_atomically, write_text_atomically
from darts_hpc.run.fingerprint import MACHINE
from darts_hpc.run.folder import choose_run_folder, command_line, environment, logging_to
from darts_hpc.run.interrupt import Interrupt, name_of
from darts_hpc.run.metrics import JsonLines, Meter
from darts_hpc.run.performance import Window, peak_memory_bytes
from darts_hpc.run.progress import Progress
from darts_hpc.run.rank_state import load_rank_state, rank_state, saved_rank_state
from darts_hpc.run.tensorboard import TensorBoard
from darts_hpc.space.genotypes import Genotype
from darts_hpc.units import readable_duration

log = logging.getLogger(__name__)

RECORDS = ("metrics", "genotypes", "performance")
REQUEUE_FILE = "DARTS_HPC_REQUEUE_FILE"
"""Environment variable: where a job script wants to be told that a stopped run should go on in a job of its own."""
ESTIMATE_AFTER = 5
"""Steps after which a run on the CPU says how long it will take."""


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved."""


class Run:
    """One run, from its first step to its last, over any number of interruptions. Use it as a context manager.

    Args:
        entry: name of the entry point, such as train_search.
        cfg: length, folder and reports.
        config_yaml: the whole configuration, kept as config.yaml.
        fingerprint: what a checkpoint must agree with to be continued here.
        world: the processes of the run.
        may_differ: parts of the fingerprint that only warn where they differ from a checkpoint's.

    Attributes:
        epoch: the epoch under way, 0-based.
        step: steps of it that are done.
        meter: training numbers of this epoch so far.
    """

    def __init__(
        self,
        entry: str,
        cfg: RunConfig,
        config_yaml: str,
        fingerprint: Mapping[str, object],
        world: World,
        may_differ: Collection[str] = MACHINE,
    ):
        self.entry, self.cfg, self.config_yaml, self.world = entry, cfg, config_yaml, world
        machine = {"world_size": world.size, "torch": torch.__version__, "device_type": world.device.type}
        self.fingerprint = {**fingerprint, **machine}
        self.may_differ = may_differ
        self.epoch = self.step = self.global_step = 0
        self.meter = Meter(world.device)
        self.window = Window(world.device, world.size)
        self.final: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.seconds = 0.0
        self._state: Mapping[str, Any] = {}
        self._estimated = False
        self._resources = ExitStack()

    def __enter__(self) -> "Run":
        with ExitStack() as stack:
            self.folder = _folder_of(self.entry, self.cfg)
            self.folder = self.world.broadcast_object(self.folder)
            if self.world.is_main:
                stack.enter_context(lock_run_folder(self.folder))
            self.world.barrier()
            stack.enter_context(logging_to(self.folder, self.world.rank))
            self._checkpoints = CheckpointStore(self.folder / "checkpoints")
            self._newest = self._checkpoints.load_newest() if self.cfg.resume != "none" or is_restart() else None
            if self._newest is not None:
                check_fingerprint(self._newest.fingerprint, self.fingerprint, self.may_differ)
            if self.world.is_main:
                try:
                    self._open_records(stack)
                except OSError as error:
                    raise ValueError(
                        f"can't write to the run folder {self.folder} ({error}); choose another with --save"
                    ) from None
            self._interrupt = stack.enter_context(Interrupt())
            self._consensus = StopConsensus(self.world)
            self._resources = stack.pop_all()
        log.info("run folder: %s", self.folder)
        if self.world.device.type == "cpu":
            log.warning("no GPU in use: a CPU is slow; how slow follows after %d steps", ESTIMATE_AFTER)
        return self

    def _open_records(self, stack: ExitStack) -> None:
        write_text_atomically(self.folder / "config.yaml", self.config_yaml)
        facts = {**environment(), "device": str(self.world.device), "processes": self.world.size}
        write_text_atomically(self.folder / "environment.json", strict_json.dumps(facts, indent=1) + "\n")
        with (self.folder / "command.txt").open("a") as file:
            file.write(command_line() + "\n")
        self._records = {name: JsonLines(self.folder / f"{name}.jsonl") for name in RECORDS}
        positions = self._newest.load("state")["records"] if self._newest is not None else {}
        for name, record in self._records.items():
            record.rewind(positions.get(name, 0))
        purge_step = 0 if self._newest is None else self._newest.step
        self._tensorboard = TensorBoard(self.folder, purge_step) if self.cfg.tensorboard else None
        if self._tensorboard is not None:
            stack.callback(self._tensorboard.close)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        stopped = isinstance(error, Interrupted)
        if stopped:
            log.info("%s; go on with: %s", error, self._resume_hint())
        elif isinstance(error, RolledBack):
            saved = self.world.size == 1 and self.save()  # the other ranks are still in the step, and can't answer
            log.error(
                "out of memory in epoch %d after %d steps, %s; go on, with less, with: %s",
                self.epoch + 1, self.step, "saved" if saved else "the last checkpoint stands", self._resume_hint(),
            )  # fmt: skip
        elif error is not None and not isinstance(error, ValueError):  # the entry prints a user's mistake
            log.error("failed: %s: %s", type(error).__name__, error)
        self._resources.close()
        return stopped

    @property
    def is_fresh(self) -> bool:
        """Whether the run starts here, and does not go on from a checkpoint."""
        return self._newest is None

    def epochs(self, state: Mapping[str, Any]) -> Iterator[int]:
        """Yield the epochs still to do, after restoring `state` where the run goes on.

        `state` names everything with state_dict and load_state_dict on which the rest of the run depends.
        """
        self._state = state
        self._clock = time.monotonic()
        if self._newest is not None:
            self._restore()
        self._first_step = self.global_step
        while self.epoch < self.cfg.epochs:
            yield self.epoch

    def steps(self, steps_per_epoch: int) -> Iterator[int]:
        """Yield the steps still to do in this epoch. Stop cleanly, or save, after a step where that is asked for."""
        total = self._total_steps = self.cfg.epochs * steps_per_epoch
        first = self.global_step = self.epoch * steps_per_epoch + self.step
        self.window.restart()
        progress = Progress(total, first, enabled=self.world.is_main)
        progress.describe(f"epoch {self.epoch + 1}/{self.cfg.epochs}")
        self._progress = progress
        started = time.monotonic()
        try:
            for step in range(self.step, steps_per_epoch):
                self.global_step = self.epoch * steps_per_epoch + step
                yield step
                self.step = step + 1
                self.global_step += 1
                progress.step()
                if self.global_step - first == ESTIMATE_AFTER and not self._estimated:
                    self._estimate((time.monotonic() - started) / ESTIMATE_AFTER * (total - self.global_step))
                self.stop_if_asked()
                if (
                    self.cfg.checkpoint_freq
                    and self.step % self.cfg.checkpoint_freq == 0
                    and self.step < steps_per_epoch
                ):
                    self.save()
            if self.window.images:
                self._report_performance(self.global_step)
        finally:
            progress.close()

    def report_step(self, optimizer: torch.optim.Optimizer, numbers: Mapping[str, Tensor], num_images: int) -> None:
        """Record this epoch's averages, the rate and `numbers` (0-d, on the device), every report_freq steps."""
        self.window.add(num_images)
        done = self.step + 1
        if done % self.cfg.report_freq:
            return
        train = self.meter.compute(self.world)
        rate = {"learning_rate": float(optimizer.param_groups[0]["lr"])}
        read = {name: value.item() for name, value in numbers.items()}
        self._record("metrics", "step", {**prefixed("train", train), **rate, **read}, self.global_step + 1)
        speed = self._report_performance(self.global_step + 1)
        shown = {"loss": train["loss"], "accuracy": train["accuracy"], "images/s": speed["images_per_second"]}
        self._progress.describe(f"epoch {self.epoch + 1}/{self.cfg.epochs}", shown)
        left = (self._total_steps - self.global_step - 1) * speed["seconds_per_step"]
        log.info(
            "epoch %d step %d: loss %.4f, accuracy %.2f %%, learning rate %.5f, %.4g images/s%s, %s left",
            self.epoch + 1, done, train["loss"], train["accuracy"], rate["learning_rate"], speed["images_per_second"],
            f", {speed['data_wait_share']:.0%} waiting for data" if "data_wait_share" in speed else "",
            readable_duration(left),
        )  # fmt: skip

    def finish_epoch(self, numbers: Mapping[str, Any], genotype: Genotype | None = None) -> None:
        """Record an epoch's numbers and its genotype, move on to the next epoch, and save."""
        self._record("metrics", "epoch", numbers, self.global_step)
        if genotype is not None:
            self.record_genotype("epoch_end", genotype)
        self.final = {name: value for name, value in numbers.items() if isinstance(value, (int, float))}
        accuracy = {name: value for name, value in numbers.items() if name in ("test/accuracy", "valid/accuracy")}
        for name, value in accuracy.items():
            if value > self.best.get(name, -1.0):
                self.best = {name: value, "epoch": self.epoch}
        shown = ", ".join(f"{name} {numbers[name]:.4g}" for name in numbers if name.endswith(("/loss", "/accuracy")))
        log.info("epoch %d of %d: %s", self.epoch + 1, self.cfg.epochs, shown)
        self.epoch, self.step = self.epoch + 1, 0
        self.meter.reset()
        self.save()

    def record_genotype(self, when: str, genotype: Genotype) -> None:
        """Append the current cell to genotypes.jsonl and draw it for TensorBoard."""
        if not self.world.is_main:
            return
        self._records["genotypes"].write({"epoch": self.epoch, "when": when, "genotype": genotype.to_dict()})
        if self._tensorboard is not None:
            self._tensorboard.cells(genotype, self.global_step)

    def stop_if_asked(self) -> None:
        """After a signal to any rank, save and raise Interrupted; every rank does so at the same place.

        Every rank calls this equally often. Several ranks stop one call later, when all know of it.
        """
        asked = self._consensus.post(self._interrupt.requested)
        if asked:
            self._consensus.wait()
            saved = self.save()
            if self.world.is_main:
                self._ask_for_requeue(saved)
            outcome = "saved" if saved else "NOT saved, the last checkpoint stands"
            raise Interrupted(
                f"stopped by {name_of(asked)} in epoch {self.epoch + 1} after {self.step} steps, {outcome}"
            )

    def _ask_for_requeue(self, saved: bool) -> None:
        """Leave the marker at which a job script requeues itself; not without progress, or it would do so for ever."""
        marker = os.environ.get(REQUEUE_FILE)
        progress = self.global_step - self._first_step
        if marker and saved and progress > 0:
            write_text_atomically(
                Path(marker), strict_json.dumps({"folder": str(self.folder), "step": self.global_step}) + "\n"
            )
        elif marker:
            why = "not a step was done since the start" if saved else "the checkpoint could not be written"
            log.warning("no requeue asked for, because %s", why)

    def save(self) -> bool:
        """Write a checkpoint. A full disk and the like is told, and the run goes on: the last good checkpoint stays."""
        ranks, meter = self.world.gather_objects(rank_state(self._state, self.world)), self.world.sum(self.meter.totals)
        if not self.world.is_main:
            return True
        try:
            state = {
                "objects": {name: part.state_dict() for name, part in self._state.items()},
                "position": {"epoch": self.epoch, "step": self.step, "global_step": self.global_step},
                "meter": meter,
                "final": self.final,
                "best": self.best,
                "seconds": self._elapsed(),
                "records": {name: record.position() for name, record in self._records.items()},
            }
            payloads = {"state": state} | {f"rank{rank}": own for rank, own in enumerate(ranks)}
            self._checkpoints.save(self.global_step, payloads, self.fingerprint)
        except OSError as error:
            log.error("could not save a checkpoint (%s); the last good one stays, and the run goes on", error)
            return False
        return True

    def finish(self, result: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write tensors by file name, then result.json, which marks the run as finished."""
        if not self.world.is_main:
            return
        facts = {
            "entry": self.entry,
            "name": self.folder.name,
            "status": "finished",
            "epochs": self.cfg.epochs,
            "final": self.final,
            "best": self.best,
            "seconds": round(self._elapsed(), 1),
            "peak_memory_bytes": peak_memory_bytes(self.world.device),
            "device": str(self.world.device),
        }
        try:
            for name, tensors in files.items():
                save_atomically(self.folder / name, dict(tensors))
            write_text_atomically(self.folder / "result.json", strict_json.dumps({**facts, **result}, indent=1) + "\n")
        except OSError as error:
            raise ValueError(
                f"the run is done, but its result could not be written ({error}); free some space, then "
                f"{self._resume_hint()}"
            ) from None

    def _restore(self) -> None:
        assert self._newest is not None
        state = self._newest.load("state", self.world.device)
        own = saved_rank_state(self._newest, state["objects"], self._state, self.world)
        for name, part in self._state.items():
            part.load_state_dict(state["objects"][name])
        load_rank_state(own, self._state, self.world)
        self.epoch, self.step, self.global_step = (state["position"][k] for k in ("epoch", "step", "global_step"))
        if self.world.is_main:  # the sum over ranks, which one of them carries on
            self.meter.totals.copy_(state["meter"])
        self.final, self.best, self.seconds = state["final"], state["best"], state["seconds"]
        log.info("going on in epoch %d after step %d, from %s", self.epoch + 1, self.step, self._newest.path)

    def _record(self, name: str, event: str, numbers: Mapping[str, Any], step: int) -> None:
        if not self.world.is_main:
            return
        record = {"event": event, "epoch": self.epoch, "step": step, **numbers}
        self._records[name].write(record)
        if self._tensorboard is not None:
            self._tensorboard.write(record)

    def _report_performance(self, step: int) -> dict[str, float]:
        numbers = {**self.window.read(), "seconds": self._elapsed()}
        self._record("performance", "performance", prefixed("performance", numbers), step)
        return numbers

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._clock

    def _estimate(self, seconds: float) -> None:
        self._estimated = True
        if self.world.device.type == "cpu" and seconds > 60:
            log.warning("at this speed the run takes another %s", readable_duration(seconds))

    def _resume_hint(self) -> str:
        return f"the same command with --save {self.folder}/ --resume auto"


def check_run_folder(entry: str, cfg: RunConfig, world: World) -> None:
    """Raise ValueError, on rank 0, where a Run would for its folder: before the data is read. Writes nothing."""
    if not world.is_main:
        return
    folder = _folder_of(entry, cfg)
    if folder.exists():
        with lock_run_folder(folder):
            return
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ValueError(f"can't write to the run folder {folder}: {there} takes no new folder; choose another --save")


def _folder_of(entry: str, cfg: RunConfig) -> Path:
    return choose_run_folder(
        entry, cfg.save, cfg.resume, job_name(), restarted_since=launch_time() if is_restart() else None
    )


def prefixed(prefix: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers under "<prefix>/<name>"."""
    return {f"{prefix}/{name}": value for name, value in numbers.items()}
