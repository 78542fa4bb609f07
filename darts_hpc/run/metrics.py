"""What a run measures: sums that stay on the device, and files of one JSON object per line."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.distributed.world import World
from darts_hpc.user_files import open_file

log = logging.getLogger(__name__)

LOSS, TOP1, TOP5, COUNT = range(4)


class Meter:
    """Sums of loss, hits and images since the last reset, in float64; updating them does not wait for the device."""

    def __init__(self, device: torch.device):
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)  # loss, top-1 hits, top-5 hits, images

    def reset(self) -> None:
        """Start again from nothing."""
        self.totals.zero_()

    @torch.no_grad()
    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: mean loss (0-d), logits (B, classes), labels (B,)."""
        count = len(labels)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]  # (B, 5)
        hits1, hits5 = best[:, :1].sum(), best.sum()
        self.totals += torch.stack(
            [loss.double() * count, hits1.double(), hits5.double(), torch.full_like(loss, count).double()]
        )

    def compute(self, world: World) -> dict[str, float]:
        """Return mean loss, and top-1 and top-5 accuracy in percent, over all ranks. Waits for the device."""
        loss, top1, top5, count = world.sum(self.totals).tolist()
        if not count:
            return {}
        return {"loss": loss / count, "accuracy": 100 * top1 / count, "accuracy_top5": 100 * top5 / count}

    def count(self, world: World) -> int:
        """Return how many images were measured, over all ranks. Waits for the device."""
        return int(world.sum(self.totals)[COUNT])


class JsonLines:
    """A file of one JSON object per line, appended to.

    When the disk is full the lines wait in memory for the next write, and the file never ends in half a line. One that
    somebody cuts or removes goes on from what is left of it.
    """

    def __init__(self, path: Path, check: Callable[[str], object] = json.loads):
        """check: raises ValueError for a line that is no record."""
        self.path, self._check = path, check
        self._waiting: list[bytes] = []
        self._failed = False
        self._size = path.stat().st_size if path.exists() else 0

    def write(self, record: Mapping[str, object]) -> None:
        """Append a record; a failure to do so is logged once and retried with the next."""
        self._waiting.append(strict_json.dumps(record).encode() + b"\n")
        try:
            self._flush()
        except OSError as error:
            if not self._failed:
                log.warning(
                    "could not write %s (%s); its lines are kept in memory until it works again", self.path, error
                )
            self._failed = True

    def last(self) -> dict[str, Any] | None:
        """Return the last record; None where there is none, or it is damaged."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        try:
            record = json.loads(lines[-1]) if lines else None
        except (ValueError, RecursionError):
            return None
        return record if isinstance(record, dict) and type(record.get("step")) is int else None

    def position(self) -> int:
        """Return the file's length in bytes, all of it on disk, so that a checkpoint may rely on it.

        Raises OSError while lines are still waiting for room: a checkpoint now would lose them.
        """
        self._flush()
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return self._size

    def end_of_records(self, position: int) -> int:
        """Return where the records end that are whole, from the first one on, up to `position`."""
        if not self.path.exists():
            return 0
        with open_file(self.path) as file:
            lines = file.read(min(position, self._size)).split(b"\n")
        end = 0
        for line in lines[:-1]:
            try:
                self._check(line.decode())
            except (ValueError, RecursionError):
                break
            end += len(line) + 1
        return end

    def rewind(self, position: int) -> None:
        """Forget what was written after `position`; of a file that was cut or overwritten, what is not whole."""
        end = self.end_of_records(position)
        if end < position:
            log.warning(
                "%s was cut, overwritten or removed: %d of %d bytes of its records are whole, the others are lost, and "
                "the run goes on",
                self.path, end, position,
            )  # fmt: skip
        if self.path.exists():
            os.truncate(self.path, end)
        self._size = end

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        if not data:
            return
        with self.path.open("ab", buffering=0) as file:
            if (found := os.fstat(file.fileno()).st_size) < self._size:
                self._size = self._end_of_lines(found)
                log.warning("%s was cut or removed while the run goes on; records in it are lost", self.path)
            file.truncate(self._size)
            if file.write(data) != len(data):
                raise OSError("only a part was written")
        self._size += len(data)
        self._waiting, self._failed = [], False

    def _end_of_lines(self, size: int) -> int:
        """Return where the last whole line of a file of this size ends."""
        with self.path.open("rb") as file:
            return file.read(size).rfind(b"\n") + 1
