"""Run folders as runs write them, with numbers like those of real runs."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from darts_hpc.space.genotypes import GENOTYPES, Genotype
from darts_hpc.space.spaces import SPACES, SearchSpace

VERSIONS = {"python": "3.11.9", "torch": "2.15.0", "gpus": ["NVIDIA H200"], "commit": "0123abc", "changed_files": ""}
COMMON = {"data": "../data", "dataset": "digits", "image_size": "16", "layers": "5", "init_channels": "8"}


def write_search_run(
    folder: Path,
    seed: int = 2,
    epochs: int = 6,
    finished: bool = True,
    space: SearchSpace = SPACES["darts"],
    cells: Sequence[Genotype] = (GENOTYPES["DARTS_V1"],),
    eigenvalue: float | None = None,
) -> Path:
    """Write the files a search leaves behind, with numbers like those of a real one.

    cells: one after each of the last epochs. eigenvalue: after the last epoch, half of which it is after the first.
    """
    draw = random.Random(seed)
    num_operations = len(space.normal[0])
    taste = {
        cell: [[draw.gauss(0, 0.8) for _ in range(num_operations)] for _ in range(14)] for cell in ("normal", "reduce")
    }
    records = []
    for epoch in range(epochs):
        record = _accuracies(draw, epoch, epochs, "valid", 97.0)
        for cell, rows in taste.items():
            table = [_softmax([value * (epoch + 1) / epochs for value in row]) for row in rows]
            record[f"alphas/{cell}"] = table
            record[f"entropy/{cell}"] = sum(-sum(p * math.log(p) for p in row) for row in table) / 14
        records.append(record | {"skip_connects": epoch // 2})
    if eigenvalue is not None:
        records[0]["eigenvalue"], records[-1]["eigenvalue"] = eigenvalue / 2, eigenvalue
    config = {**COMMON, "unrolled": "false", "epochs": epochs, "seed": seed, "save": folder.name}
    result = {"multiply_adds": 3_456_789, "parameters": 28_210, "parameters_with_auxiliary": 28_210}
    _write(folder, "train_search", config, records, cells, result if finished else None)
    (folder / "space.json").write_text(json.dumps(space.to_dict()))
    return folder


def write_train_run(
    folder: Path,
    seed: int = 0,
    epochs: int = 15,
    finished: bool = True,
    accuracy: float = 98.9,
    arch: str = "DARTS_V2",
    cell: Genotype = GENOTYPES["DARTS_V2"],
    split: str = "test",
) -> Path:
    """Write the files a training leaves behind; its final accuracy is `accuracy`, an earlier epoch's is higher.

    split: "valid" for a training that held images out.
    """
    draw = random.Random(seed)
    records = [_accuracies(draw, epoch, epochs, split, accuracy) for epoch in range(epochs)]
    records[-1][f"{split}/accuracy"] = accuracy
    records[epochs // 2][f"{split}/accuracy"] = accuracy + 0.3
    config = {**COMMON, "arch": arch, "epochs": epochs, "seed": seed, "save": folder.name, "weight_decay": "0.0003"}
    result = {"multiply_adds": 2_345_678, "parameters": 61_234, "parameters_with_auxiliary": 70_000}
    return _write(folder, "train", config, records, [cell], result if finished else None)


def _accuracies(draw: random.Random, epoch: int, epochs: int, split: str, final: float) -> dict:
    left = math.exp(-4 * epoch / max(epochs - 1, 1))
    numbers = {
        "event": "epoch",
        "epoch": epoch,
        "step": 20 * (epoch + 1),
        "learning_rate": 0.025 * (1 - epoch / epochs),
    }
    for name, best in (("train", final + 0.5), (split, final)):
        numbers[f"{name}/loss"] = 0.05 + 2.1 * left + draw.random() * 0.05
        numbers[f"{name}/accuracy"] = best - 70 * left - draw.random() * 0.6
    return numbers


def _softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def _write(
    folder: Path, entry: str, config: dict, records: list[dict], cells: Sequence[Genotype], costs: dict | None
) -> Path:
    folder.mkdir(parents=True)
    step = {"event": "step", "epoch": 0, "step": 5, "train/loss": 2.2, "train/accuracy": 14.0, "learning_rate": 0.025}
    rates = {"performance/images_per_second": 900.0, "performance/memory_bytes": 300_000_000}
    performance = [
        {"event": event, "epoch": epoch, "step": 20 * epoch + 20, "performance/seconds": 4.0 * epoch + seconds, **more}
        for epoch in range(len(records))
        for event, seconds, more in (("performance", 1.0, rates), ("epoch", 4.0, {}))
    ]
    first, genotype = len(records) - len(cells), cells[-1]
    found = [
        {"epoch": epoch, "when": "epoch_end", "genotype": cell.to_dict()}
        for epoch, cell in enumerate(cells, start=first)
    ]
    (folder / "config.yaml").write_text(f"# {entry}\n" + "".join(f"{key}: {value}\n" for key, value in config.items()))
    (folder / "command.txt").write_text(f"python -m darts_hpc.{entry} --seed {config['seed']}\n")
    (folder / "environment.json").write_text(json.dumps(VERSIONS))
    for name, lines in (("metrics", [step, *records]), ("performance", performance), ("genotypes", found)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if costs is not None:
        result = {
            "entry": entry, "name": folder.name, "status": "finished", "epochs": len(records), "final": records[-1],
            "genotype": genotype.to_dict(), "genotype_text": str(genotype), "seconds": 4.0 * len(records),
            "peak_memory_bytes": 300_000_000, "device": "cpu", **costs,
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
    return folder
