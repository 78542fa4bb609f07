"""Damaged images are named and left out, up to a limit over all processes; then the run stops with the list."""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from darts_hpc import strict_json
from darts_hpc.data.imagenet.list.manifest import Damaged
from darts_hpc.distributed.world import World
from darts_hpc.durable import write_atomically
from darts_hpc.user_files import read_file

log = logging.getLogger(__name__)

SHOWN = 20
"""Damaged images that an error names; all of them are in the journal."""


def journal_of(manifest: Path) -> Path:
    """Return the file, beside a manifest, that lists the damaged images of its data, one JSON object a line."""
    return manifest.with_name(f"{manifest.stem}.damaged.jsonl")


class Quarantine:
    """The damaged images of a data set, shared by the processes of a run through the journal.

    Some are known from the manifest, and are no samples. The others were whole when the manifest was made: such a one
    keeps its place in the order, and its batch comes without it, whichever rank takes it.
    """

    def __init__(self, journal: Path, limit: int):
        self.journal, self.limit = journal, limit
        self._own: dict[str, Damaged] = {}

    def begin(self, known: Iterable[Damaged], checks: Sequence[Callable[[Collection[str]], set[str]]]) -> None:
        """Start the journal afresh, on one rank: with the known ones, and those of earlier runs that nobody mended.

        checks: each tells which of some names are samples that are damaged. Raises ValueError when they are too many.
        """
        known = list(known)
        names = {damaged.name for damaged in known}
        earlier = {one.name: one for one in self._read() if one.name not in names}
        damaged = set[str]().union(*(check(earlier) for check in checks))
        known += [one for name, one in earlier.items() if name in damaged]
        for one in known:
            log.warning("left out as damaged: %s", one)
        if known or self.journal.exists():
            self._write(lambda: write_atomically(self.journal, b"".join(map(_line, known))))
        self._stop_beyond_limit(known)

    def add(self, damaged: Damaged) -> None:
        """Leave out one more image. Raises ValueError with the list when this one is too many."""
        if damaged.name in self._own:
            return
        log.warning("left out as damaged: %s", damaged)
        self._own[damaged.name] = damaged
        known = {one.name: one for one in self._read()}
        if damaged.name not in known:
            self._write(lambda: _append(self.journal, _line(damaged)))
        self._stop_beyond_limit([*(known | self._own).values()])

    def join(self, world: World) -> None:
        """Count what every process left out. Every rank calls it, now and then.

        A journal is shared by the processes that see the same disk; nodes with the data on disks of their own have one
        each, and only here does their sum meet the limit. Raises ValueError with the list, on every rank alike.
        """
        journal = self._read() if world.is_main else []
        known = {one.name: one for one in journal}
        everybodys = {
            one.name: one for own in world.gather_objects([*known.values(), *self._own.values()]) for one in own
        }
        if world.is_main and (others := [one for name, one in everybodys.items() if name not in known]):
            self._write(lambda: _append(self.journal, b"".join(map(_line, others))))
        self._stop_beyond_limit([*everybodys.values()])

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            log.warning("can't write %s (%s): each process counts its damaged images alone", self.journal, error)

    def _stop_beyond_limit(self, known: list[Damaged]) -> None:
        if len(known) > self.limit:
            shown = ", ".join(map(str, known[:SHOWN]))
            more = f", and {len(known) - SHOWN} more in {self.journal}" if len(known) > SHOWN else ""
            raise ValueError(
                f"{len(known)} damaged images are more than --max_bad_images {self.limit}: {shown}{more}; "
                "fix them, or raise the limit"
            )

    def _read(self) -> list[Damaged]:
        """Read the journal; a line that another process is just writing is left out."""
        try:
            lines = read_file(self.journal).splitlines(keepends=True)
        except ValueError:
            return []
        return [self._parsed(line) for line in lines if line.endswith(b"\n")]

    def _parsed(self, line: bytes) -> Damaged:
        try:
            return Damaged(**json.loads(line))
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.journal} holds {line[:80]!r}; expected a damaged image a line, as JSON with name and reason; "
                "remove that file"
            ) from None


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:  # one write, so that lines of several processes don't mix
        file.write(data)


def _line(damaged: Damaged) -> bytes:
    return strict_json.dumps(damaged._asdict()).encode() + b"\n"
