"""Random faults for as long as asked: kills, flipped bits, cut files, bad inputs. The last line counts what went wrong.

python tests/faults/soak.py --minutes 10                # prints its seed, and each failure with its number
python tests/faults/soak.py --seed 7 --only 1234        # one input again
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[up]) for up in (0, 1, 2)]  # as pytest has it

from damage import KINDS as DAMAGE  # noqa: E402
from damage import make_stopped  # noqa: E402
from inputs import KINDS as INPUTS  # noqa: E402
from things import make_things  # noqa: E402

KINDS: dict[str, tuple[int, Callable]] = {**INPUTS, **DAMAGE}
"""Name -> weight, and a function of (random numbers, things, an empty folder) that yields what it found."""
VERDICTS = ("missed", "lost", "tracebacks", "hangs")
"""missed: something else in silence. lost: work, or a file of the user's, is gone or half of one is left."""


def main() -> int:
    """Try faults until the time is up. Return 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description="Try random faults; the last line counts what went wrong.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, help="the number of one input")
    parser.add_argument("--kind", choices=KINDS, help="faults of one kind")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    counts: Counter[str] = Counter(dict.fromkeys(("tried", *VERDICTS), 0))
    with tempfile.TemporaryDirectory() as folder:
        for number, kind, verdict, line in _all(asked, Path(folder)):
            counts["tried"] += verdict is None
            if verdict is not None:
                counts[verdict] += 1
                print(f"{verdict}: input {number} ({kind}): {line}", flush=True)
    print(json.dumps({"seed": asked.seed, **counts}), flush=True)
    return int(any(counts[verdict] for verdict in VERDICTS))


def _all(asked: argparse.Namespace, folder: Path) -> Iterator[tuple[int, str, str | None, str]]:
    """Yield (number, kind, None, "") of each input that was tried, and (number, kind, verdict, words) of failures."""
    if asked.only is not None:
        yield from _one(asked, asked.only, _made(folder / "alone"))
        return
    deadline = time.monotonic() + 60 * asked.minutes
    ends = [_start(asked, first, folder / str(first), deadline) for first in range(asked.processes)]
    while ends:
        ready = wait(ends)
        for end in [end for end in ends if end in ready]:
            try:
                yield from end.recv()
            except EOFError:
                ends.remove(end)


def _start(asked: argparse.Namespace, first: int, folder: Path, deadline: float) -> Connection:
    """Fork a process that tries every processes-th input, and return where its findings come from."""
    ours, theirs = Pipe(duplex=False)
    if os.fork():
        theirs.close()
        return ours
    number, things = first, _made(folder)
    try:
        while time.monotonic() < deadline:
            theirs.send(list(_one(asked, number, things)))
            number += asked.processes
    finally:
        os._exit(0)


def _made(folder: Path) -> Path:
    folder.mkdir()
    things = make_things(folder / "things")
    make_stopped(things)
    return things


def _one(asked: argparse.Namespace, number: int, things: Path) -> Iterator[tuple[int, str, str | None, str]]:
    draw = random.Random(f"{asked.seed}/{number}")
    kind = asked.kind or draw.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    with tempfile.TemporaryDirectory(dir=things.parent) as scratch:
        for found in KINDS[kind][1](draw, things, Path(scratch)):
            yield number, kind, *found
    yield number, kind, None, ""


if __name__ == "__main__":
    os._exit(main())  # at once: the last line is ours, and not what a library says of its leaks
