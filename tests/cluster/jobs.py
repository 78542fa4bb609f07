"""Small runs under every launcher, disturbed or not, and what came of them."""

import hashlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from few_digits import few_digits
from ranks import on_ranks

from darts_hpc.run.checkpoint import CheckpointStore

ROOT = Path(__file__).parents[2]
TINY = ["--dataset", "folder", "--data", str(few_digits()), "--image_size", "8", "--init_channels", "4"]
TINY += ["--layers", "3", "--report_freq", "1", "--no-tensorboard", "--device", "cpu"]
SEARCH = ("train_search", *TINY, "--image_size", "4", "--space", "s2", "--memory_check", "off", "--epochs", "1")
SEARCH += ("--batch_size", "8")  # 2 steps with 4 processes
TRAIN = ("train", *TINY, "--epochs", "4", "--batch_size", "12", "--arch", "DARTS_V1", "--auxiliary")
TRAIN += ("--memory_check", "off", "--checkpoint_freq", "2")  # 5 steps an epoch with 2 processes


def copy_checkout(folder: Path) -> Path:
    """Copy what a user has in a checkout."""
    for name in ("darts_hpc", "launch", "slurm", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.out", "requeue-*"))
    return folder


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a user with nothing but a Python, whichever launcher runs these tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_", "PMI"))}
    return {**ours, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def start(*command: object, cwd: Path, log: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start a command of a user; what it says goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd, env=environment(**more), stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def run(*command: object, cwd: Path, log: Path, **more: str) -> int:
    """Run a command of a user to its end; return its exit code."""
    return start(*command, cwd=cwd, log=log, **more).wait(timeout=500)


def run_in_forks(command: Sequence[str], size: int, *flags: object) -> None:
    """Run an entry on ranks forked from this process, which spares each a Python of its own: 4 of its 5 s of CPU."""

    def rank() -> None:
        torch.set_num_threads(1)
        name, *given = [*command, *map(str, flags)]
        sys.argv = [name, *given]
        runpy.run_module(f"darts_hpc.{name}", run_name="__main__", alter_sys=True)

    on_ranks(size, rank)


def outcome(folder: Path) -> dict[str, str]:
    """Digests of a finished run: weights, alphas, optimizers' states, genotypes and metrics."""
    said = "".join(path.read_text() for path in folder.glob("log.rank0.txt"))
    assert (folder / "result.json").exists(), f"{folder} is not finished: {said[-3000:]}"
    newest = CheckpointStore(folder / "checkpoints").load_newest()
    assert newest is not None
    digests = {name: _digest(t.contiguous().numpy().tobytes()) for name, t in _tensors(newest.load("state")["objects"])}
    assert any("momentum_buffer" in name for name in digests) and len(digests) > 100
    records = {name: _digest((folder / f"{name}.jsonl").read_bytes()) for name in ("metrics", "genotypes")}
    return digests | records | {"genotype": json.loads((folder / "result.json").read_text())["genotype_text"]}


def steps_done(folder: Path) -> int:
    """Return how many steps a run has recorded, 0 before it began."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count('"event": "step"') if metrics.exists() else 0


def wait_until(reached: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


def wait_for_stop(number: signal.Signals, log: Path) -> None:
    """Wait until a run has got a signal."""
    wait_until(lambda: f"{number.name}: finishing this step" in log.read_text(), 240, number.name)


def workers(folder: Path) -> list[int]:
    """Return the processes on this machine that run an entry with this folder, their launcher not counted."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in b" ".join(words) and b"darts_hpc.distributed.torchrun" not in words:
            found.append(int(status.parent.name))
    return found


def mpi_python(folder: Path, mpi: str) -> Path:
    """Make a virtual environment with an MPI and mpi4py of its own, that borrows all else; return its bin folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q", "--no-compile"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", mpi, "mpi4py"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LookupError(f"the {mpi} and mpi4py wheels can't be installed: {done.stderr.strip().splitlines()[-1]}")
    packages = next((folder / "lib").glob("python3*/site-packages"))
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    return folder / "bin"


def _tensors(value: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{path}/{key}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
