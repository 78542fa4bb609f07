"""TensorBoard events of a run: the numbers of metrics.jsonl and performance.jsonl, the alphas and the cells."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darts_hpc.pictures.alphas import edge_names, operation_names
from darts_hpc.pictures.cells import CELLS, cell_image
from darts_hpc.pictures.heat_map import HeatMap, to_pixels
from darts_hpc.space.genotypes import PRIMITIVES, Genotype

log = logging.getLogger(__name__)

POSITION = ("event", "epoch", "step", "num_epochs")


class TensorBoard:
    """Event files in a run folder. Their x axis is the global step.

    Pictures are drawn in a thread of their own, beside the steps. A full disk and the like is logged once, and then
    nothing more is written: monitoring never stops a training.

    Args:
        folder: where the event files go.
        purge_step: the step a resumed run goes on from; what an earlier process wrote beyond it is hidden.
        primitives: names of alpha's columns.
    """

    def __init__(self, folder: Path, purge_step: int | None = None, primitives: Sequence[str] = PRIMITIVES):
        from torch.utils.tensorboard import SummaryWriter

        self._primitives = primitives
        self._failed = False
        self._writer: Any = None
        self._hook, threading.excepthook = threading.excepthook, self._on_thread_error
        self._drawn: Genotype | None = None
        self._written: dict[str, int] = {}  # scalar -> the last step it has a point at
        self._charted: dict[str, int] = {}  # cell -> number of its edges
        self._painter = ThreadPoolExecutor(1, "tensorboard-pictures")
        self._pictures: list[Future[None]] = []
        with self._guarded():
            # SummaryWriter hides steps >= purge_step, yet what is at the checkpoint's own step was written before it.
            first_hidden = None if purge_step is None else purge_step + 1
            self._writer = SummaryWriter(str(folder), purge_step=first_hidden, flush_secs=20)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record of metrics.jsonl or performance.jsonl: numbers as scalars, alphas as pictures and curves."""
        measured = record.get("event") in ("step", "epoch", "roll_back")
        for name, value in record.items():
            if name.startswith("alphas/"):
                self._paint(self._alphas, name.removeprefix("alphas/"), value, record["step"])
            elif name.startswith("edge_weights/"):
                cell = name.removeprefix("edge_weights/")
                for tag, weight in zip(_edge_tags(cell, len(value)), value, strict=True):
                    self._add("add_scalar", tag.replace("softmax_alphas", "edge_weights"), weight, record["step"])
            elif name not in POSITION and isinstance(value, int | float):
                tag = name if measured or name.startswith("performance/") else f"performance/{name}"
                if self._written.get(tag) != record["step"]:  # an epoch ends with the numbers of its last step
                    self._written[tag] = record["step"]
                    self._add("add_scalar", tag, value, record["step"])

    def skip(self, record: Mapping[str, Any]) -> None:
        """Take a record of metrics.jsonl as shown: an earlier process of this run wrote it."""
        self._written |= dict.fromkeys(record, int(record["step"]))

    def cells(self, genotype: Genotype, step: int) -> None:
        """Draw the current cells where they changed; nothing without graphviz's `dot` program."""
        if not self._failed and genotype != self._drawn:
            self._drawn = genotype
            self._paint(self._cells, genotype, step)

    def close(self) -> None:
        """Draw and write what is still in memory, and close."""
        self._painter.shutdown()
        for picture in self._pictures:
            picture.result()
        if self._writer is not None:
            with self._guarded():
                self._writer.close()
        threading.excepthook = self._hook

    def _paint(self, draw: Callable[..., None], *args: Any) -> None:
        for picture in [picture for picture in self._pictures if picture.done()]:
            self._pictures.remove(picture)
            picture.result()  # an error of ours is raised, if late
        self._pictures.append(self._painter.submit(draw, *args))

    def _cells(self, genotype: Genotype, step: int) -> None:
        image = cell_image(genotype)
        if image is not None:
            self._add("add_image", "cells", image, step, dataformats="HWC")

    def _alphas(self, cell: str, weights: Sequence[Sequence[float]], step: int) -> None:
        """Draw softmax(alpha), (edges, operations), and add a curve for each operation of each edge."""
        if self._failed or not all(math.isfinite(value) for row in weights for value in row):
            return
        operations = operation_names(self._primitives, len(weights[0]))
        # uniform alphas are half full
        high = max(2 / len(operations), *(value for row in weights for value in row))
        title = f"softmax(alpha), {CELLS[cell].lower()}"
        picture = to_pixels(HeatMap(title, weights, edge_names(len(weights)), operations, high))
        self._add("add_image", f"alphas/{cell}", picture, step, dataformats="HWC")
        for tag, row in zip(_edge_tags(cell, len(weights)), weights, strict=True):
            for operation, value in zip(operations, row, strict=True):
                self._add("add_scalar", f"{tag}/{operation}", value, step)
        if self._charted.get(cell) != len(weights):
            self._charted[cell] = len(weights)
            self._add(
                "add_custom_scalars",
                {f"alphas, {CELLS[name].lower()}": _charts(name, n) for name, n in self._charted.items()},
            )

    def _add(self, method: str, *args: Any, **kwargs: Any) -> None:
        if not self._failed:
            with self._guarded():
                getattr(self._writer, method)(*args, **kwargs)

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """Keep the traceback of the writer's thread, which looks like a crash, off the terminal."""
        if not (isinstance(error.exc_value, OSError) and type(error.thread).__name__ == "_AsyncWriterThread"):
            self._hook(error)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Log the first OSError, and give up writing. The writer's thread hands its own on to the next call."""
        try:
            yield
        except OSError as error:
            if not self._failed:
                log.warning("TensorBoard events can't be written any more (%s); the run and metrics.jsonl go on", error)
            self._failed = True


def _edge_tags(cell: str, num_edges: int) -> list[str]:
    """Name the curves of each edge; only characters that TensorBoard keeps, and that mean themselves in a pattern."""
    names = [name.translate({ord("{"): None, ord("}"): None}).replace("→", "_to_") for name in edge_names(num_edges)]
    return [f"softmax_alphas_{cell}/{edge:02d}_{name}" for edge, name in enumerate(names)]


def _charts(cell: str, num_edges: int) -> dict[str, list]:
    """Lay out one chart per edge, which shows all of its operations."""
    tags = _edge_tags(cell, num_edges)
    return {name: ["Multiline", [f"{tag}/.*"]] for name, tag in zip(edge_names(num_edges), tags, strict=True)}
