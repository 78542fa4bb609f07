"""Random damage to what runs leave: flipped bits, cut and lost files, and kills at random moments."""

import ctypes
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from attempts import Outcome, attempt
from inputs import Finding, copy_run, damaged, findings

from darts_hpc.data.loading.batches import Batch, BatchSource
from darts_hpc.run.weights import read_weights

ENTRIES = {"search": "train_search", "train": "train"}
SECONDS_OF_RUN = 3.0
PR_SET_PDEATHSIG = 1


def try_weights(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Damage weights of a run and of a training script: refused, or the very same."""
    name, source = draw.choice((("weights.pt", "train"), ("weights.pt", "search"), ("alphas.pt", "search")))
    run = copy_run(things / "runs" / source, new / "run")
    path = run / name
    whole = read_weights(path)
    path.write_bytes(damaged(draw, path.read_bytes()))
    try:
        found = read_weights(path)
    except ValueError as error:
        if "\n" in str(error):
            yield "tracebacks", f"{name}: more than a line: {str(error)[:300]!r}"
    except Exception as error:
        yield "tracebacks", f"{name}: {error!r}"
    else:
        if found.keys() != whole.keys() or any(not torch.equal(found[key], whole[key]) for key in whole):
            yield "missed", f"{name} is damaged and was read"


def try_stopped_run(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Damage a file of a run that was killed, and go on with it: the same outcome, from the checkpoint before."""
    name = draw.choice(list(ENTRIES))
    run = copy_run(things / "stopped" / name, new / "run")
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name[0] != ".")
    path = draw.choice(files)
    content = path.read_bytes()
    path.unlink()
    match draw.randrange(5):
        case 0:
            pass
        case 1:
            draw.choice((path.mkdir, partial(os.mkfifo, path), partial(path.symlink_to, "/dev/zero")))()
        case _:
            path.write_bytes(damaged(draw, content))
    done = _go_on(name, things, run)
    yield from findings(done)
    what = path.relative_to(run)
    in_place = path.exists() and not path.is_file() and what.parent == Path()  # refused: it is in the way
    if done.code == 2 and not in_place:
        yield "lost", f"{name} with {what} damaged can't go on: {done.refusals}"
    if done.code == 0 and digests(run) != digests(things / "runs" / name):
        yield "missed", f"{name} with {what} damaged ends otherwise"


def try_kills(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Kill a run at random moments, and go on until it ends: the same outcome, and the same records."""
    name, run = draw.choice(list(ENTRIES)), new / "run"
    for _ in range(draw.choice((1, 1, 2, 3))):
        done = _go_on(name, things, run, before=partial(kill_after, draw.uniform(0.1, SECONDS_OF_RUN)))
        if done.code not in (0, -signal.SIGKILL):
            yield "lost", f"{name} after a kill: {done.code}: {done.said[-300:]!r}"
            return
    done = _go_on(name, things, run)
    yield from findings(done)
    if done.code or digests(run, records=True) != digests(things / "runs" / name, records=True):
        yield "lost", f"{name} after kills ends otherwise: {done.code}: {done.said[-300:]!r}"


KINDS: dict[str, tuple[int, Callable]] = {
    "weights": (20, try_weights),
    "stopped_run": (6, try_stopped_run),
    "kills": (4, try_kills),
}


def make_stopped(things: Path) -> None:
    """Leave runs that were killed in their second epoch."""
    for name, batches in (("search", 12), ("train", 9)):
        done = _go_on(name, things, things / "stopped" / name, before=partial(signal_at_batch, batches))
        assert done.code == -signal.SIGKILL, done.said


def signal_at_batch(call: int, number: int = signal.SIGKILL) -> None:
    """Send this process a signal at the given call for a batch."""
    batch, calls = BatchSource.batch, [0]

    def counted(self: BatchSource, epoch: int, step: int) -> Batch:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), number)
        return batch(self, epoch, step)

    BatchSource.batch = counted


def kill_after(seconds: float) -> None:
    """Have this process killed after a time by another one, which waits in no lock of it."""
    victim = os.getpid()
    if os.fork():
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    time.sleep(seconds)
    if os.getppid() == victim:
        os.kill(victim, signal.SIGKILL)
    os._exit(0)


def digests(run: Path, records: bool = False) -> dict[str, str]:
    """Digests of a finished run's tensors, and of its records."""
    found = {}
    for name in ("weights.pt", "alphas.pt"):
        if (run / name).exists():
            for key, value in read_weights(run / name).items():
                found[f"{name}/{key}"] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    for name in ("metrics", "genotypes") if records else ():
        found[name] = hashlib.sha256((run / f"{name}.jsonl").read_bytes()).hexdigest()
    return found


def _go_on(
    name: str, things: Path, run: Path, before: Callable[[], None] = lambda: None, seconds: float = 200
) -> Outcome:
    preset = ("--config", f"{things}/presets/{name}.yaml", "--checkpoint_freq", "1", "--save", f"{run}/")
    flags = (*preset, "--resume", "auto")
    return attempt((ENTRIES[name], *flags), things.parent, before=before, runs=True, seconds=seconds)
