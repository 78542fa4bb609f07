"""What to run first on a new GPU: whether it computes rightly, how fast, and in how much memory. Nine minutes.

    make gpu                        # all parts
    make gpu PART=train             # one of them: tests, search, train, memory, entries, loaders
    python benchmarks/gpu/suite.py --device cpu --quick     # the same programs on tiny networks, without a GPU

A part's programs run one after the other, each for its own time at most. What a program measured, or printed until it
was ended, is written at once to benchmarks/results/gpu_PART-MACHINE.json. Exit code: 0, 1 where a program failed, 2
without a GPU.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import machine
from parts import PARTS, Command

from darts_hpc import strict_json
from darts_hpc.durable import write_atomically
from darts_hpc.units import readable_bytes

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "torchvision", "triton", "nvidia-dali-cuda130", "numpy", "darts_hpc")
KEPT_LINES = 60
PATIENCE = 4
"""How many times its budget a program may take on a CPU, which may be busy with other work."""
WIDTH = 118


def main() -> None:
    """Run the parts, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS), help="left out: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, a few steps")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the JSON files"
    )
    args = parser.parse_args()
    if args.device == "cpu" and not args.quick:
        fail("--device cpu: expected --quick beside it; at full size it would take hours")
    if args.device == "cuda" and not torch.cuda.is_available():
        fail("no GPU here that torch can use; python benchmarks/gpu/suite.py --device cpu --quick is a rehearsal")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    facts = {"quick": args.quick, **facts_of(torch.device(args.device))}
    done: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for part in args.part:
            commands = PARTS[part](args.quick)
            if args.device == "cpu":
                commands = [replace(command, budget_s=PATIENCE * command.budget_s) for command in commands]
            done[part] = run_part(part, commands, environment, facts, args.output)
    finally:  # also of what was cut off
        print(table(done, facts), flush=True)
    sys.exit(any(outcome["status"] in ("failed", "cut off") for part in done.values() for outcome in part.values()))


def run_part(
    part: str, commands: list[Command], environment: dict[str, str], facts: dict[str, Any], output: Path
) -> dict[str, dict[str, Any]]:
    """Run a part's programs; after each, write what there is of the part. Return the outcomes by name."""
    outcomes: dict[str, dict[str, Any]] = {}
    slug = re.sub(r"[^a-z0-9]+", "_", facts["machine"].lower()).strip("_")
    output.mkdir(parents=True, exist_ok=True)
    for command in commands:
        print(f"{part}: {command.name}, at most {command.budget_s} s", flush=True)
        outcomes[command.name] = run_command(command, environment)
        content = {"benchmark": f"gpu_{part}", **facts, "commands": outcomes}
        text = strict_json.dumps(content, indent=1) + "\n"
        write_atomically(output / f"gpu_{part}-{slug}.json", text.encode())
    return outcomes


def run_command(command: Command, environment: dict[str, str]) -> dict[str, Any]:
    """Run a program and its children for as long as it may; return its outcome and what it printed."""
    argv = ["python", *command.argv]
    if command.missing:
        return {"argv": argv, "status": "skipped", "why": command.missing}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command.argv], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
    )  # fmt: skip
    cut_off = False
    try:
        printed, said = process.communicate(timeout=command.budget_s)
    except subprocess.TimeoutExpired:
        cut_off = True
        kill(process)
        printed, said = process.communicate()
    finally:
        kill(process)
    outcome: dict[str, Any] = {"argv": argv, "seconds": round(time.monotonic() - start, 1)}
    lines = [line for line in printed.splitlines() if line.strip()]
    result = as_result(lines[-1]) if lines else None
    if cut_off:
        outcome |= {"status": "cut off", "why": f"after {command.budget_s} s"}
    elif process.returncode:
        errors = [line for line in said.splitlines() if line.strip()] or lines or ["it printed nothing"]
        outcome |= {"status": "failed", "why": f"exit code {process.returncode}: {errors[-1][:300]}"}
    else:
        outcome["status"] = "ok"
    return (
        outcome
        | ({"result": result} if result is not None else {})
        | {"printed": lines[-KEPT_LINES:][: -1 if result else None]}
    )


def kill(process: subprocess.Popen) -> None:
    """End a program and what it started; where all are gone, nothing."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def as_result(line: str) -> dict[str, Any] | None:
    """Return a benchmark's last line as its result."""
    try:
        result = json.loads(line)
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def facts_of(device: torch.device) -> dict[str, Any]:
    """Return machine and versions."""
    versions = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    facts: dict[str, Any] = {"machine": machine(device, torch.get_num_threads()), "versions": versions}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpus": torch.cuda.device_count(), "gpu_memory_bytes": properties.total_memory}
    return facts


def table(done: dict[str, dict[str, dict[str, Any]]], facts: dict[str, Any]) -> str:
    """Return all outcomes as one table."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number)
    lines = ["", f"{facts['machine']}; {versions}", f"{'part':<9}{'program':<21}{'took':>7}  result"]
    for part, outcomes in done.items():
        for name, outcome in outcomes.items():
            took = f"{outcome['seconds']:.0f} s" if "seconds" in outcome else ""
            head = f"{part:<9}{name:<21}{took:>7}  "
            for text in summary(outcome):
                for line in textwrap.wrap(text, WIDTH - len(head)):
                    lines.append(head + line)
                    head = " " * len(head)
    return "\n".join(lines)


def summary(outcome: dict[str, Any]) -> list[str]:
    """Return what a program found, in a line or a few."""
    found: list[str] = []
    if outcome["status"] != "ok":
        found.append(f"{outcome['status'].upper()}: {outcome['why']}")
    result = outcome.get("result")
    if result is None:
        return found + [" ".join(line.split()) for line in outcome.get("printed", [])[-1:]]
    return found + SUMMARIES.get(result.get("benchmark", ""), lambda own: [strict_json.dumps(own)[:300]])(result)


def of_search(result: dict[str, Any]) -> list[str]:
    """Seconds of a search step."""
    return [
        f"{order.replace('_', ' ')}: {times(result[f'{order}_seconds'], result['batch_size'])}"
        for order in ("first_order", "unrolled")
    ]


def of_training(result: dict[str, Any]) -> list[str]:
    """Seconds of a training step."""
    return [
        f"{name}: {times(result[name]['seconds'], result[name]['timed']['batch_size'])}"
        for name in ("cifar", "imagenet")
    ]


def times(seconds: dict[str, float], images: int) -> str:
    """Return each form's time and rate."""
    return ", ".join(f"{form} {1e3 * took:.1f} ms ({images / took:,.0f}/s)" for form, took in seconds.items())


def of_entry(result: dict[str, Any]) -> list[str]:
    """How fast an entry was."""
    waited = result["data_wait_share"]
    return [
        f"{result['images_per_s']:,.0f} images/s, {1e3 * result['seconds_per_step']:.1f} ms per step of "
        f"{result['batch_size']}, {readable_bytes(int(result['memory_bytes']))} at most"
        + (f", {waited:.1%} waiting for images" if waited is not None else "")
    ]


def of_loader(result: dict[str, Any]) -> list[str]:
    """Images per second of the loaders."""
    rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in result["images_per_s"].items())
    return [f"{rates}; the network alone {result['model_images_per_s']:,.0f}/s"]


def of_memory(result: dict[str, Any]) -> str:
    """How far off the planned bytes were."""
    return f"{len(result['rows'])} steps, off by {result['worst_error']:.2%} at most"


SUMMARIES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "search_step": of_search,
    "train_step": of_training,
    "memory_prediction": lambda result: [of_memory(result)],
    "memory_prediction_training": lambda result: [of_memory(result)],
    "entry_steps": of_entry,
    "loader": of_loader,
}


def fail(message: str) -> NoReturn:
    """End with a line, and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
