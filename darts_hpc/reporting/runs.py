"""Read run folders, finished or not, and group the runs that share a configuration."""

import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darts_hpc.space.genotypes import Genotype, load_genotype, parse_genotype

NOT_CONFIGURATION = frozenset(
    {
        *("seed", "save", "resume", "data", "device", "gpu", "report_freq"),
        *("checkpoint_freq", "tensorboard", "model_path", "arch"),
    }
)
"""Flags in which runs of one configuration may differ. The cell behind --arch is compared, not its path."""
COSTS = ("parameters", "parameters_with_auxiliary", "multiply_adds", "seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Run:
    """What one run folder holds."""

    folder: Path
    entry: str
    config: dict[str, str]
    epochs: list[dict[str, Any]]
    """One record of metrics.jsonl an epoch."""
    genotypes: list[Genotype]
    performance: list[dict[str, Any]]
    result: dict[str, Any] | None
    """None while it is running, or when it was interrupted."""
    environment: dict[str, Any]
    command: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.result is not None

    @property
    def status(self) -> str:
        """ "finished", or how far it came."""
        return (
            "finished"
            if self.finished
            else f"unfinished, {len(self.epochs)} of {self.config.get('epochs', '?')} epochs"
        )

    @property
    def genotype(self) -> Genotype | None:
        """The cell it found or trained."""
        if self.result and self.result.get("genotype"):
            return parse_genotype(self.result["genotype"])
        if self.genotypes:
            return self.genotypes[-1]
        try:
            return load_genotype(self.config["arch"])
        except (KeyError, ValueError):
            return None

    @property
    def numbers(self) -> dict[str, float]:
        """Numbers of its last epoch, and its costs as far as they are known."""
        last = self.result.get("final") if self.result else None
        costs = self.result or self._costs_so_far()
        numbers = {**(last or (self.epochs[-1] if self.epochs else {})), **{key: costs.get(key) for key in COSTS}}
        return {key: value for key, value in numbers.items() if _is_number(value) and key not in ("epoch", "step")}

    def _costs_so_far(self) -> dict[str, Any]:
        last = self.performance[-1] if self.performance else {}
        return {
            "seconds": last.get("performance/seconds", last.get("seconds")),
            "peak_memory_bytes": last.get("performance/memory_bytes", last.get("memory_bytes")),
        }

    @property
    def headline_name(self) -> str:
        """Name of the number it is judged by: at its final epoch, on test images or on those held out."""
        held_out = float(self.config.get("held_out") or 0)
        return "valid/accuracy" if self.entry == "train_search" or held_out else "test/accuracy"

    @property
    def headline(self) -> float | None:
        """Accuracy in percent at the final epoch; while it runs, at the last one."""
        return self.numbers.get(self.headline_name)

    @property
    def best(self) -> float | None:
        """Highest accuracy of any epoch: for curiosity only, because the images that judge it also chose it."""
        values = [record[self.headline_name] for record in self.epochs if self.headline_name in record]
        return max((value for value in values if math.isfinite(value)), default=None)


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (None for one run) over n runs."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic":
        """Summarize values; infinities and NaN make everything NaN."""
        if not all(math.isfinite(value) for value in values):
            return cls(math.nan, math.nan if len(values) > 1 else None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Group:
    """Runs of the same configuration."""

    title: str
    runs: list[Run]

    @property
    def entry(self) -> str:
        """The entry they ran."""
        return self.runs[0].entry

    @property
    def headline_name(self) -> str:
        """Name of the number they are judged by."""
        return self.runs[0].headline_name

    @property
    def finished(self) -> list[Run]:
        """The runs that statistics are about."""
        return [run for run in self.runs if run.finished]

    def statistics(self) -> dict[str, Statistic]:
        """Summarize each number over the finished runs that have it."""
        numbers = [run.numbers for run in self.finished]
        keys = dict.fromkeys(key for own in numbers for key in own)
        return {key: Statistic.of([own[key] for own in numbers if key in own]) for key in keys}


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises ValueError naming the file and line when it is none, or damaged."""
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder} is no run folder: it holds no config.yaml; give folders such as runs/train-...")
    entry, config = _read_config(folder / "config.yaml")
    result = _read_object(folder / "result.json")
    metrics = list(_read_lines(folder / "metrics.jsonl", ("epoch", "step")))
    history = list(_read_lines(folder / "genotypes.jsonl", ("genotype",)))
    command = folder / "command.txt"
    return Run(
        folder=folder,
        entry=str((result or {}).get("entry") or entry),
        config=config,
        epochs=[record for record in metrics if record.get("event") == "epoch"],
        genotypes=[_genotype(folder / "genotypes.jsonl", line, record) for line, record in enumerate(history, start=1)],
        performance=list(_read_lines(folder / "performance.jsonl", ("epoch", "step"))),
        result=result,
        environment=_read_object(folder / "environment.json") or {},
        command=_read_text(command).strip() if command.is_file() else "",
    )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs of the same configuration, in the order of their first run."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(_configuration(run), []).append(run)
    titles = _titles([members[0] for members in groups.values()])
    return [Group(title, members) for title, members in zip(titles, groups.values(), strict=True)]


def _configuration(run: Run) -> tuple:
    shared = tuple(sorted((key, value) for key, value in run.config.items() if key not in NOT_CONFIGURATION))
    cell = str(run.genotype or run.config.get("arch")) if "arch" in run.config else None
    return run.entry, shared, cell


def _titles(runs: Sequence[Run]) -> list[str]:
    """Say what a reader tells configurations apart by: the usual sizes, then every flag in which they differ."""
    titles = []
    for run in runs:
        config = run.config
        words = [run.entry, config.get("dataset", "")]
        if run.entry == "train_search":
            words.append("second order" if config.get("unrolled") == "true" else "first order")
        words += [f"{config[key]} {word}" for key, word in _SIZES.items() if key in config]
        peers = [peer.config for peer in runs if peer.entry == run.entry]
        varying = {key for peer in peers for key in peer.keys() | config.keys() if peer.get(key) != config.get(key)}
        known = NOT_CONFIGURATION | {"dataset", "unrolled", *_SIZES}
        words += [f"{key} {config.get(key, '-')}" for key in sorted(varying - known)]
        if "arch" in varying and len(config["arch"]) < 80:
            words.append(f"arch {config['arch']}")
        titles.append(", ".join(word for word in words if word))
    return titles


_SIZES = {"layers": "cells", "init_channels": "channels", "epochs": "epochs"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _genotype(path: Path, line: int, record: Mapping[str, Any]) -> Genotype:
    try:
        return parse_genotype(record["genotype"])
    except ValueError as error:
        raise ValueError(f"{path} line {line}: {error}") from None


def _read_config(path: Path) -> tuple[str, dict[str, str]]:
    """Read the flat YAML a run writes: its entry, from the first comment, and each flag's value as text.

    Only the configuration layer knows YAML itself; a report needs no more than to compare and show the values.
    """
    text = _read_text(path)
    entry = re.match(r"#.*?\b(train_search|train|evaluate)\b", text)
    config: dict[str, str] = {}
    key = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"(\w+):(?: (.*))?", line)
        if match:
            key = match[1]
            config[key] = match[2] or ""
        elif key and line.startswith((" ", "- ")):  # a long value goes on
            config[key] = f"{config[key]} {line.strip()}".strip()
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"{path} line {number}: expected `flag: value`, got {line[:60]!r}")
    return entry[1] if entry else path.parent.resolve().name.partition("-")[0], {
        k: _unquoted(v) for k, v in config.items()
    }


def _unquoted(value: str) -> str:
    return value[1:-1].replace("''", "'") if len(value) > 1 and value[0] == value[-1] == "'" else value


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: damaged JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} line 1: expected a JSON object")
    return value


def _read_lines(path: Path, required: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a file's JSON objects; a last line without its end is still being written, and left out."""
    lines = _read_text(path).split("\n")[:-1] if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number}: damaged JSON: {error.msg}") from None
        missing = [key for key in required if not isinstance(record, dict) or key not in record]
        if missing:
            raise ValueError(f"{path} line {number}: expected a JSON object with {missing[0]!r}")
        yield _with_nan(record)


def _with_nan(value: Any) -> Any:
    """Return the value with NaN for null, as which a number that is not finite is written."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: can't be read: {error}") from None
