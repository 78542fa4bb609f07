"""Read run folders, finished or not; only this module does. It imports no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_hpc.config.presets import read_written
from darts_hpc.run.record_types import HISTORY, POSITIONED, RESULT, check_space, check_types
from darts_hpc.space.genotypes import PRIMITIVES, Genotype, load_genotype, parse_genotype
from darts_hpc.user_files import (
    exists,
    is_file,
    is_folder,
    parse_json,
    read_json,
    read_tail,
    read_text,
    resolved,
    shown,
)

ACCURACIES = ("test/accuracy", "valid/accuracy")
"""A run's accuracy is the first of these that it has: on test images, else on validation images (held out of a
training, a search's second half, or ImageNet's)."""
COSTS = ("parameters", "parameters_with_auxiliary", "multiply_adds", "seconds", "peak_memory_bytes")
POSITION = ("epoch", "step", "num_epochs")
"""Keys of a record besides its numbers; num_epochs where the run has another number of epochs than its flags say."""
MEASURED = ("step", "epoch", "performance")
"""Events in which null stands for a number that is not finite; elsewhere it means none."""
REQUIRED = {"metrics": POSITIONED, "genotypes": HISTORY, "performance": POSITIONED}
"""File of records -> what each of its lines must have."""
TAIL_BYTES = 1 << 16
MAX_BYTES = 1 << 30
"""Of a file of records; a long run writes some megabytes."""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """What one run folder holds."""

    folder: Path
    entry: str
    config: dict[str, Any]
    """Flag -> value."""
    epochs: list[dict[str, Any]]
    """One record of metrics.jsonl per epoch, without those that a search rolled back."""
    decisions: list[dict[str, Any]]
    """One record of metrics.jsonl per decision of --selection perturbation."""
    genotypes: list[Genotype]
    cell_after: dict[int, Genotype]
    """Epoch, from 0 -> the cell that was derived at its end; of one done again after a roll-back, the later cell."""
    space: dict[str, Any]
    """Operations in the order of alpha's columns: "primitives" of every edge, or a list per edge of each cell."""
    performance: list[dict[str, Any]]
    result: dict[str, Any] | None
    """None while it is running, or when it was stopped."""
    environment: dict[str, Any]
    command: str
    identity: dict[str, Any] = field(default_factory=dict)
    """What it computes, as its checkpoints have it: flags resolved, the data's digest, the number of processes."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return resolved(self.folder).name

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.result is not None

    @property
    def diverged(self) -> bool:
        """Whether a number of its last epoch is not finite; a training loss in fp16 may be."""
        return any(not math.isfinite(v) for name, v in self.last_epoch.items() if not name.startswith("train/"))

    @property
    def status(self) -> str:
        """ "finished", or how far it came."""
        words = f"unfinished, {len(self.epochs)} of {_num_epochs(self.epochs, self.config.get('epochs', '?'))} epochs"
        return ("finished" if self.finished else words) + (", diverged" if self.diverged else "")

    @property
    def genotype(self) -> Genotype | None:
        """The cell it found or trained."""
        if self.result and self.result.get("genotype"):
            return parse_genotype(self.result["genotype"])
        if self.genotypes:
            return self.genotypes[-1]
        try:
            return load_genotype(str(self.config["arch"]))
        except (KeyError, ValueError):
            return None

    @property
    def is_before_first_epoch(self) -> bool:
        """Whether its genotype is that of alphas no epoch has trained yet."""
        return self.entry == "train_search" and not self.finished and not self.cell_after

    @property
    def last_epoch(self) -> dict[str, float]:
        """Numbers of its last epoch; NaN where one is not finite."""
        last = self.result.get("final") if self.result else {}
        numbers = _with_nan(last) or (self.epochs[-1] if self.epochs else {})
        return {key: value for key, value in numbers.items() if _is_number(value) and key not in POSITION}

    @property
    def numbers(self) -> dict[str, float]:
        """Numbers of its last epoch, and its costs as far as they are known."""
        costs = self.result or self._costs_so_far()
        return self.last_epoch | {key: costs[key] for key in COSTS if _is_number(costs.get(key))}

    def _costs_so_far(self) -> dict[str, Any]:
        last = {name: value for record in self.performance for name, value in record.items()}
        return {
            "seconds": last.get("performance/seconds", last.get("seconds")),
            "peak_memory_bytes": last.get("performance/memory_bytes", last.get("memory_bytes")),
        }

    @property
    def accuracy_name(self) -> str | None:
        """Which of ACCURACIES it has; None before its first evaluation."""
        return accuracy_name(self._last_evaluated)

    @property
    def accuracy(self) -> float | None:
        """Accuracy in percent at the final epoch; while it runs, at the last one that was evaluated."""
        return accuracy_of(self._last_evaluated)

    @property
    def _last_evaluated(self) -> Mapping[str, Any]:
        return self.last_epoch if self.finished else last_evaluated(self.epochs)

    @property
    def best(self) -> float | None:
        """Highest accuracy of any epoch. Biased: the images that measure it also selected it."""
        return max((value for value in map(accuracy_of, self.epochs) if value is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come.

    epoch: epochs done. accuracy: in percent, of the last of them that was evaluated. gpus: how many it runs on.
    """

    finished: bool
    epoch: int
    epochs: int
    accuracy: float | None
    seconds: float
    steps: int
    gpus: int = 0

    @property
    def device_seconds(self) -> float:
        """Seconds of all its GPUs together; on CPUs, of the job."""
        return self.seconds * max(1, self.gpus)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the speed so far; None before the end of the first epoch."""
        return self.seconds / self.epoch * (self.epochs - self.epoch) if self.epoch else None


def accuracy_name(numbers: Mapping[str, Any]) -> str | None:
    """Return which of ACCURACIES a run with these numbers has; else None."""
    return next((name for name in ACCURACIES if name in numbers), None)


def accuracy_of(numbers: Mapping[str, Any]) -> float | None:
    """Return the accuracy, in percent, of a run with these numbers; None without one that is finite."""
    value = numbers.get(accuracy_name(numbers) or "", math.nan)
    return value if _is_number(value) and math.isfinite(value) else None


def last_evaluated(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the last of some epochs' records that has an accuracy, finite or not; an empty one without."""
    return next((record for record in reversed(epochs) if accuracy_name(record) is not None), {})


def read_run(folder: Path) -> RecordedRun:
    """Read a run folder. Raises ValueError naming the file and line when it is no run folder, or damaged."""
    entry, config = read_config(folder)
    metrics = list(_read_lines(folder / "metrics.jsonl"))
    history = list(_read_lines(folder / "genotypes.jsonl"))
    genotypes = [_genotype(folder / "genotypes.jsonl", line, record) for line, record in enumerate(history, start=1)]
    command = folder / "command.txt"
    space = _read_object(folder / "space.json") or {"primitives": list(PRIMITIVES)}
    check_space(space, f"{folder / 'space.json'} line 1")
    return RecordedRun(
        folder=folder,
        entry=entry,
        config=config,
        epochs=_last_record_per_epoch(metrics),
        decisions=[record for record in metrics if record.get("event") == "selection"],
        genotypes=genotypes,
        cell_after={
            record["epoch"]: genotype
            for record, genotype in zip(history, genotypes, strict=True)
            if record.get("when") == "epoch_end" and "epoch" in record
        },
        space=space,
        performance=list(_read_lines(folder / "performance.jsonl")),
        result=read_result(folder),
        environment=_read_object(folder / "environment.json") or {},
        identity=(_read_object(folder / "launch.json") or {}).get("fingerprint", {}),
        command=read_text(command).strip() if exists(command) else "",
    )


def check_record(name: str, line: str) -> None:
    """Raise ValueError for a line of NAME.jsonl that read_run refuses."""
    record = parse_json(line, f"{name}.jsonl")
    check_types(record, f"{name}.jsonl", REQUIRED[name])
    if "genotype" in REQUIRED[name]:
        parse_genotype(record["genotype"])


def check_exists(path: Path, flag: str) -> None:
    """Raise ValueError where neither a run folder nor a file of weights is there. `flag` is what named the path."""
    if not exists(path):
        raise ValueError(f"{flag} {shown(path)} does not exist; give a run folder, or a .pt file of weights")
    if not (is_folder(path) or is_file(path)):
        raise ValueError(f"{flag} {path} is a device or a pipe; give a run folder, or a .pt file of weights")


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the entry that a run folder is of, and its flags by name.

    Raises ValueError when it is no run folder, or its config is damaged.
    """
    path = folder / "config.yaml"
    if not exists(path):
        raise ValueError(
            f"{shown(folder)} is no run folder: it holds no config.yaml; give folders such as runs/train-..."
        )
    entry, config = read_written(path)
    return entry or resolved(folder).name.partition("-")[0], config


def read_result(folder: Path, required: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return a finished run's result.json; None while there is none. required: what it must have (check_types).

    Raises ValueError, with the way out, when it is damaged.
    """
    path = folder / "result.json"
    if not exists(path):
        return None
    text, where = read_text(path), f"{path} line 1"
    try:
        result = parse_json(text, path)
        check_types(result, where)
        if result.get("status") != "finished":
            return None
        check_types(result, where, required)
        final = result.get("final") or {}
        check_types(final, where)
        for name in ACCURACIES:
            if not 0 <= (final.get(name) or 0) <= 100:
                raise ValueError(f"{where}: {name} is {final[name]}; expected percent, from 0 to 100")
        if result.get("genotype"):
            _genotype(path, 1, result)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and the same command goes on from the newest checkpoint") from None
    return result


def read_progress(folder: Path) -> Progress | None:
    """Read how far the run in a folder has come; None when it has not started. It reads the ends of files only."""
    if not exists(folder / "config.yaml"):
        return None
    result = read_result(folder, RESULT)
    if result is not None:
        return Progress(
            finished=True,
            epoch=result["epochs"],
            epochs=result["epochs"],
            accuracy=accuracy_of(result["final"]),
            seconds=result["seconds"],
            steps=0,
            gpus=_gpus(folder),
        )
    records = _last_records(folder / "metrics.jsonl", POSITIONED)
    epochs = [record for record in records if record.get("event") == "epoch"]
    performance = _last_records(folder / "performance.jsonl", {})
    seconds = [record["performance/seconds"] for record in performance if record.get("performance/seconds")]
    num_epochs = _num_epochs(epochs, read_config(folder)[1].get("epochs", 0))
    if not _is_number(num_epochs):
        raise ValueError(f"{folder / 'config.yaml'}: epochs: expected a whole number")
    return Progress(
        finished=False,
        epoch=epochs[-1]["epoch"] + 1 if epochs else records[-1]["epoch"] if records else 0,
        epochs=num_epochs,
        accuracy=accuracy_of(last_evaluated(epochs)),
        seconds=seconds[-1] if seconds else 0.0,
        steps=records[-1]["step"] if records else 0,
        gpus=_gpus(folder),
    )


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file that are not empty; none of a file that is not there."""
    return [line for line in _tail(path).splitlines() if line.strip()][-count:]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _last_record_per_epoch(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last record of each epoch: a search that rolled back has done some again."""
    epochs: list[dict[str, Any]] = []
    for record in metrics:
        if record.get("event") == "roll_back":
            epochs = [done for done in epochs if done["epoch"] < record["epoch"]]
        elif record.get("event") == "epoch":
            epochs.append(dict(record))
    return epochs


def _num_epochs(epochs: Sequence[Mapping[str, Any]], flag: Any) -> Any:
    """Return the epochs that a run has, by its last record or else by its flag."""
    return epochs[-1].get("num_epochs", flag) if epochs else flag


def _genotype(path: Path, line: int, record: Mapping[str, Any]) -> Genotype:
    try:
        return parse_genotype(record["genotype"])
    except ValueError as error:
        raise ValueError(f"{path} line {line}: {error}") from None


def _gpus(folder: Path) -> int:
    try:
        facts = _read_object(folder / "environment.json") or {}
    except ValueError:  # a run that is just starting
        return 0
    return facts.get("processes") or 0 if str(facts.get("device")).startswith("cuda") else 0


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None where there is none."""
    if not exists(path):
        return None
    found = read_json(path)
    check_types(found, f"{path} line 1")
    return found


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a file's JSON objects; a last line without its end is still being written, and left out."""
    lines = read_text(path, MAX_BYTES).split("\n")[:-1] if exists(path) else []
    for number, line in enumerate(lines, start=1):
        record = parse_json(line, path, line=number)
        check_types(record, f"{path} line {number}", REQUIRED[path.stem])
        yield _with_nan(record) if record.get("event") in MEASURED else record


def _last_records(path: Path, required: Mapping[str, Any]) -> list[dict[str, Any]]:
    records = []
    for line in _tail(path).split("\n")[:-1]:  # a last line without its end is still being written
        try:
            record = parse_json(line, path)
            check_types(record, str(path), required)
        except ValueError:
            continue  # the first line of a tail is cut
        records.append(record)
    return records


def _with_nan(value: Any) -> Any:
    """Return the value with NaN for null: a number that is not finite is written as null."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _tail(path: Path) -> str:
    return read_tail(path, TAIL_BYTES).decode(errors="replace") if exists(path) else ""
