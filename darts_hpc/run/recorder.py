"""What a run records and shows: files of records, TensorBoard, log lines and a progress bar."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from darts_hpc.config.shared import RunConfig
from darts_hpc.distributed.world import World
from darts_hpc.progress import Progress
from darts_hpc.run.checkpoint import Checkpoint
from darts_hpc.run.metrics import JsonLines
from darts_hpc.run.performance import Window
from darts_hpc.run.reader import ACCURACIES, accuracy_of, check_record, read_config
from darts_hpc.run.tensorboard import TensorBoard
from darts_hpc.space.genotypes import Genotype
from darts_hpc.units import readable_duration
from darts_hpc.user_files import read_text

log = logging.getLogger(__name__)

RECORDS = ("metrics", "genotypes", "performance")
ESTIMATE_AFTER = 5
"""Steps after which a run on the CPU logs how long it will take."""


class Recorder:
    """The records of one run. Rank 0 writes them; the other ranks measure, and write nothing.

    Epochs and steps are 0-based in records, and count from 1 in what a person reads.

    Args:
        cfg: length and reports.
        world: the processes of the run.
        records: the files by name; none on ranks that don't write.
        tensorboard: where the same numbers are shown, if anywhere.

    Attributes:
        final: numbers of the last epoch.
        best: the best accuracy, and its epoch, 0-based.
        window: images and time since the last report.
    """

    def __init__(self, cfg: RunConfig, world: World, records: Mapping[str, JsonLines], tensorboard: TensorBoard | None):
        self.cfg, self.world = cfg, world
        self.final: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.window = Window(world.device, world.size)
        self._records, self._tensorboard = records, tensorboard
        self._progress, self._title = Progress(0, "step", enabled=False), ""
        self._before = self._steps_per_epoch = 0
        self._seconds_before = 0.0
        self._clock = self._started = time.monotonic()
        self._counted = 0
        self._estimated = False

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        cfg: RunConfig,
        world: World,
        newest: Checkpoint | None,
        space: Mapping[str, Any] | None = None,
    ) -> "Iterator[Recorder]":
        """Open a run's records where its newest checkpoint left them, or empty. space: a search's operations.

        Raises OSError where they can't be written.
        """
        if not world.is_main:
            yield cls(cfg, world, {}, None)
            return
        records = _files(folder)
        positions = _positions(newest) if newest is not None else {}
        for name, record in records.items():
            record.rewind(positions.get(name, 0))
        with ExitStack() as stack:
            tensorboard = None
            if cfg.tensorboard:
                tensorboard = TensorBoard(folder, 0 if newest is None else newest.step, space)
                stack.callback(tensorboard.close)
                tensorboard.describe(*read_config(folder), read_text(folder / "command.txt"))
                if (last := records["metrics"].last()) is not None:
                    tensorboard.skip(last)
            yield cls(cfg, world, records, tensorboard)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps. Raises OSError while records wait for room on the disk."""
        return {
            "final": self.final,
            "best": self.best,
            "seconds": self.seconds,
            "records": {name: record.position() for name, record in self._records.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; `open` has set the files back."""
        self.final, self.best, self._seconds_before = state["final"], state["best"], state["seconds"]

    @property
    def seconds(self) -> float:
        """Time the run has taken so far, over all its interruptions."""
        return self._seconds_before + time.monotonic() - self._clock

    def start_clock(self) -> None:
        """Count time from here."""
        self._clock = time.monotonic()

    @contextmanager
    def progress(
        self, epoch: int, num_epochs: int, steps_per_epoch: int, *, total: int, before: int, done: int
    ) -> Iterator[None]:
        """Show a progress bar, and measure performance, for an epoch's steps.

        total, before: steps of the whole run, and of it before this epoch. done: steps of this epoch.
        """
        self.window.restart()
        self._started, self._counted = time.monotonic(), 0
        self._title, self._before = f"epoch {epoch + 1} of {num_epochs}", before
        self._steps_per_epoch = steps_per_epoch
        self._progress = Progress(total, "step", title=self._title, done=before + done, enabled=self.world.is_main)
        try:
            yield
        finally:
            self._progress.close()

    def count_step(self, steps_left: int) -> None:
        """Move the progress bar by one step. On the CPU, say once how long the rest will take if it is long."""
        self._progress.add()
        self._counted += 1
        if self._counted == ESTIMATE_AFTER and not self._estimated and self.world.device.type == "cpu":
            self._estimated = True
            seconds = (time.monotonic() - self._started) / ESTIMATE_AFTER * steps_left
            if seconds > 60:
                log.warning("at this speed the run takes another %s", readable_duration(seconds))

    def step(self, epoch: int, step: int, total: int, train: Mapping[str, float], numbers: Mapping[str, float]) -> None:
        """Record the averages of the epoch so far and a step's own numbers. step, total: steps done, and of the run."""
        self._record("metrics", "step", epoch, step, {**prefixed("train", train), **numbers})
        speed = self.performance(epoch, step)
        shown = {"loss": train["loss"], "accuracy": train["accuracy"], "images/s": speed["images_per_second"]}
        self._progress.describe(self._title, shown)
        log.info(
            "%s, step %d of %d: loss %.4f, accuracy %.2f %%, learning rate %.5f, %.4g images/s%s, %s left",
            self._title, step - self._before, self._steps_per_epoch, train["loss"], train["accuracy"],
            numbers["learning_rate"], speed["images_per_second"],
            f", {speed['data_wait_share']:.0%} waiting for data" if "data_wait_share" in speed else "",
            readable_duration((total - step) * speed["seconds_per_step"]),
        )  # fmt: skip

    def performance(self, epoch: int, step: int) -> dict[str, float]:
        """Record how fast the steps since the last report were; return the numbers by name."""
        numbers = {**self.window.read(), "seconds": self.seconds}
        self._record("performance", "performance", epoch, step, prefixed("performance", numbers))
        return numbers

    def epoch(self, epoch: int, num_epochs: int, step: int, numbers: Mapping[str, Any]) -> None:
        """Record an epoch's numbers, and the time at its end.

        num_epochs: of the whole run, recorded where its flags say another.
        """
        length = {} if num_epochs == self.cfg.epochs else {"num_epochs": num_epochs}
        self._record("metrics", "epoch", epoch, step, {**numbers, **length})
        self._record("performance", "epoch", epoch, step, prefixed("performance", {"seconds": self.seconds}))
        self.final = {name: value for name, value in numbers.items() if isinstance(value, (int, float))}
        for name in ACCURACIES:
            if name in numbers and numbers[name] > self.best.get(name, -1.0):
                self.best = {name: numbers[name], "epoch": epoch}
        shown = ", ".join(f"{name} {numbers[name]:.4g}" for name in numbers if name.endswith(("/loss", "/accuracy")))
        log.info("epoch %d of %d: %s", epoch + 1, num_epochs, shown)

    def event(self, event: str, epoch: int, step: int, numbers: Mapping[str, Any]) -> None:
        """Append an event to metrics.jsonl."""
        self._record("metrics", event, epoch, step, numbers)

    def genotype(self, epoch: int, step: int, when: str, genotype: Genotype) -> None:
        """Append the current cell to genotypes.jsonl and draw it for TensorBoard."""
        if self._records:
            self._records["genotypes"].write({"epoch": epoch, "when": when, "genotype": genotype.to_dict()})
        if self._tensorboard is not None:
            self._tensorboard.cells(genotype, step)

    def finish(self, step: int) -> None:
        """Show the accuracy that the run ended with."""
        if self._tensorboard is not None:
            self._tensorboard.finish(accuracy_of(self.final), step)

    def _record(self, name: str, event: str, epoch: int, step: int, numbers: Mapping[str, Any]) -> None:
        record = {"event": event, "epoch": epoch, "step": step, **numbers}
        if self._records:
            self._records[name].write(record)
        if self._tensorboard is not None:
            self._tensorboard.write(record)


def prefixed(prefix: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers under "<prefix>/<name>"."""
    return {f"{prefix}/{name}": value for name, value in numbers.items()}


def has_records(folder: Path, checkpoint: Checkpoint) -> bool:
    """Whether the run's records until the checkpoint was written are there, and can be read; say so if not."""
    positions = _positions(checkpoint)
    for name, file in _files(folder).items():
        if file.end_of_records(positions.get(name, 0)) < positions.get(name, 0):
            log.warning(
                "%s is cut or damaged before checkpoint %s; trying the one before", file.path, checkpoint.path.name
            )
            return False
    return True


def _files(folder: Path) -> dict[str, JsonLines]:
    return {name: JsonLines(folder / f"{name}.jsonl", partial(check_record, name)) for name in RECORDS}


def _positions(checkpoint: Checkpoint) -> Mapping[str, int]:
    """Return how long each file of records was when the checkpoint was written."""
    positions = checkpoint.load("state").get("records")
    if not isinstance(positions, dict) or not all(type(value) is int and value >= 0 for value in positions.values()):
        raise checkpoint.unknown_layout("its list of records")
    return positions
