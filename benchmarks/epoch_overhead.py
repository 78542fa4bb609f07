"""Time what a search's epochs take besides steps and validation: batches, augmentation, meters, records, checkpoints.

    python benchmarks/epoch_overhead.py [train_search's flags]
    python benchmarks/epoch_overhead.py --config configs/search/digits.yaml --epochs 2

It runs the search itself and times its parts, from the second epoch on: the first one compiles, warms up and captures.
The overhead is a fraction of the steps' time. The last line is one JSON object.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from command import run
from machine import machine

from darts_hpc import strict_json
from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.run.run import Run
from darts_hpc.training import search_run

seconds = {"steps": 0.0, "validation": 0.0, "epochs": 0.0}


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = now()
        result = function(*args, **kwargs)
        seconds[part] += now() - start
        return result

    return run


def main() -> None:
    build, epochs = train_search.build_search_step, Run.epochs

    def timed_epochs(run: Run, state: dict[str, Any]) -> Iterator[int]:
        start = now()
        for index, epoch in enumerate(epochs(run, state)):
            yield epoch
            if index == 0:
                seconds.update(dict.fromkeys(seconds, 0.0))
                start = now()
        seconds["epochs"] = now() - start

    train_search.build_search_step = lambda *args, **kwargs: timed("steps", build(*args, **kwargs))
    search_run.evaluate = timed("validation", search_run.evaluate)
    Run.epochs = timed_epochs
    cfg = parse_config(SearchConfig, sys.argv[1:])
    if cfg.run.epochs < 2:
        raise ValueError(f"--epochs {cfg.run.epochs}: the first epoch is left out; expected 2 or more")
    with tempfile.TemporaryDirectory() as folder:
        named = "--save" in sys.argv  # a folder that the user names is kept
        cfg = cfg if named else parse_config(SearchConfig, [*sys.argv[1:], "--save", f"{folder}/run/"])
        found = Path(train_search.main(cfg))
        environment = json.loads((found / "environment.json").read_text())
    rest = seconds["epochs"] - seconds["steps"] - seconds["validation"]
    device = torch.device(environment["device"])
    result = {
        "benchmark": "epoch_overhead",
        "overhead_share": round(rest / seconds["steps"], 4),
        "seconds": {part: round(value, 2) for part, value in seconds.items()},
        "machine": machine(device, torch.get_num_threads()),
        "torch": torch.__version__,
        "flags": sys.argv[1:],
    }
    print(strict_json.dumps(result))


if __name__ == "__main__":
    run(main)
