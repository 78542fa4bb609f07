"""TensorBoard events of a run: the numbers of its records, its alphas and cells, its flags and its final accuracy."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darts_hpc.config.flags import flags_of, flat, spell
from darts_hpc.config.presets import ENTRIES
from darts_hpc.pictures.alphas import edge_names, edge_operations, weights_label
from darts_hpc.pictures.cells import CELLS, cell_image, describe_cell
from darts_hpc.pictures.figures import to_pixels
from darts_hpc.pictures.heat_map import HeatMap, draw
from darts_hpc.space.genotypes import PRIMITIVES, Genotype

log = logging.getLogger(__name__)

POSITION = ("event", "epoch", "step", "num_epochs")
FINAL_ACCURACY = "final/accuracy"
"""What the HParams tab compares flags by: of a finished run, in percent."""
OPERATIONS = "operations"
"""Folder of one TensorBoard run per operation: TensorBoard gives each run a color of its own, and no tag."""
LAYOUT = {
    "operations": {
        f"mean share, {title.lower()}": ["Multiline", [f"{OPERATIONS}/{cell}"]] for cell, title in CELLS.items()
    }
}
"""The Custom Scalars tab: one chart per cell, one curve per operation."""


class TensorBoard:
    """Event files in a run folder. Their x axis is the global step.

    Pictures are drawn in a thread of their own, beside the steps. A full disk and the like is logged once, and then
    nothing more is written: monitoring never stops a training.

    Args:
        folder: where the event files go.
        purge_step: the step a resumed run goes on from; what an earlier process wrote beyond it is hidden.
        space: a search's operations, as space.json holds them.
    """

    def __init__(self, folder: Path, purge_step: int | None = None, space: Mapping[str, Any] | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self._space = space or {"primitives": PRIMITIVES}
        self._failed = False
        self._writer: Any = None
        self._hook, threading.excepthook = threading.excepthook, self._on_thread_error
        self._drawn: Genotype | None = None
        self._written: dict[str, int] = {}  # scalar -> the last step it has a point at
        self._end: Any = None
        self._operations: dict[str, Any] = {}  # operation -> its writer
        self._charted = False
        self._painter = ThreadPoolExecutor(1, "tensorboard-pictures")
        self._pictures: list[Future[None]] = []
        with self._guarded():
            # SummaryWriter hides steps >= purge_step, yet what is at the checkpoint's own step was written before it.
            first_hidden = None if purge_step is None else purge_step + 1
            self._open = lambda path: SummaryWriter(str(path), purge_step=first_hidden, flush_secs=20)
            self._folder, self._writer = folder, self._open(folder)

    def describe(self, entry: str, config: Mapping[str, Any], command: str) -> None:
        """Add a run's flags, as text and for the HParams tab, and its command."""
        *begun, self._end = _session(entry, config)
        self._add(
            "add_text", "config", _code("\n".join(f"{name}: {spell(value)}" for name, value in config.items())), 0
        )
        self._add("add_text", "command", _code(command.replace(" --", " \\\n    --")), 0)
        self._add_summaries(begun)

    def finish(self, accuracy: float | None, step: int) -> None:
        """Add the accuracy in percent that the run ended with, beside its flags in the HParams tab."""
        if accuracy is not None:
            self._add("add_scalar", FINAL_ACCURACY, accuracy, step)
            self._add_summaries([self._end])

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record of metrics.jsonl or performance.jsonl: numbers as scalars, alphas as pictures and means."""
        if record.get("event") == "selection":
            self._decision(record)
            return
        measured = record.get("event") in ("step", "epoch", "roll_back")
        for name, value in record.items():
            if name.startswith("alphas/"):
                self._paint(self._alphas, name.removeprefix("alphas/"), value, record["step"])
            elif name.startswith("edge_weights/"):
                self._paint(self._edge_weights, name.removeprefix("edge_weights/"), value, record["step"])
            elif name not in POSITION and isinstance(value, int | float):
                tag = name if measured or name.startswith("performance/") else f"performance/{name}"
                if self._written.get(tag) != record["step"]:  # an epoch ends with the numbers of its last step
                    self._written[tag] = record["step"]
                    self._add("add_scalar", tag, value, record["step"])

    def skip(self, record: Mapping[str, Any]) -> None:
        """Take a record of metrics.jsonl as shown: an earlier process of this run wrote it."""
        self._written |= dict.fromkeys(record, int(record["step"]))

    def cells(self, genotype: Genotype, step: int) -> None:
        """Add the current cells where they changed, as text, and as a picture with graphviz's `dot` program."""
        if not self._failed and genotype != self._drawn:
            self._drawn = genotype
            lines = [line for cell, title in CELLS.items() for line in ("", title, *describe_cell(genotype, cell))]
            self._add("add_text", "genotype", _code("\n".join([str(genotype), *lines])), step)
            self._paint(self._cells, genotype, step)

    def close(self) -> None:
        """Draw and write what is still in memory, and close."""
        self._painter.shutdown()
        for picture in self._pictures:
            picture.result()
        for writer in (self._writer, *self._operations.values()):
            if writer is not None:
                with self._guarded():
                    writer.close()
        threading.excepthook = self._hook

    def _paint(self, draw: Callable[..., None], *args: Any) -> None:
        for picture in [picture for picture in self._pictures if picture.done()]:
            self._pictures.remove(picture)
            picture.result()  # an error of ours is raised, if late
        self._pictures.append(self._painter.submit(self._draw, draw, *args))

    def _draw(self, draw: Callable[..., None], *args: Any) -> None:
        with self._guarded():  # matplotlib keeps a cache of fonts on the disk
            draw(*args)

    def _cells(self, genotype: Genotype, step: int) -> None:
        image = cell_image(genotype)
        if image is not None:
            self._add("add_image", "cells", image, step, dataformats="HWC")

    def _alphas(self, cell: str, weights: Sequence[Sequence[float]], step: int) -> None:
        """Draw the weights (edges, operations), and add each operation's mean over the edges that offer it."""
        if self._failed or not all(math.isfinite(value) for row in weights for value in row):
            return
        operations = edge_operations(self._space, cell, len(weights), len(weights[0]))
        high = max(2 / len(weights[0]), *(value for row in weights for value in row))  # uniform alphas are half full
        self._add_table(f"alphas/{cell}", weights_label(self._space), cell, weights, operations, high, step)
        shares: dict[str, list[float]] = {}
        for names, row in zip(operations, weights, strict=True):
            for name, value in zip(names, row, strict=True):
                shares.setdefault(name, []).append(value)
        for operation, values in shares.items():
            if operation not in self._operations and not self._failed:
                with self._guarded():
                    self._operations[operation] = self._open(self._folder / OPERATIONS / operation)
            self._add("add_scalar", f"{OPERATIONS}/{cell}", sum(values) / len(values), step, writer=operation)
        if not self._charted:
            self._charted = True
            self._add("add_custom_scalars", LAYOUT)

    def _decision(self, record: Mapping[str, Any]) -> None:
        """Add what a selection by perturbation decided, and the scores without each candidate."""
        names = edge_names(max(record["edges"]) + 1)
        lines = [", ".join(names[edge] for edge in record["edges"]) + f": {record['operation'] or 'kept'}"]
        for number in ("accuracy_without", "loss_without"):
            lines.append(f"{number}: " + " ".join(f"{value:.4g}" for value in record[number]))
        self._add("add_text", f"selection/{record['cell']}", _code("\n".join(lines)), record["step"])

    def _edge_weights(self, cell: str, weights: Sequence[float], step: int) -> None:
        rows = [[weight] for weight in weights]
        self._add_table(f"edge_weights/{cell}", "weights of edges", cell, rows, [["weight"]] * len(rows), 1.0, step)

    def _add_table(
        self,
        tag: str,
        title: str,
        cell: str,
        weights: Sequence[Sequence[float]],
        operations: Sequence[Sequence[str]],
        high: float,
        step: int,
    ) -> None:
        table = HeatMap(f"{title}, {CELLS[cell].lower()}", weights, edge_names(len(weights)), operations, high)
        self._add("add_image", tag, to_pixels(draw(table)), step, dataformats="HWC")

    def _add_summaries(self, summaries: Iterable[Any]) -> None:
        for summary in summaries:
            if not self._failed:
                with self._guarded():
                    self._writer.file_writer.add_summary(summary)

    def _add(self, method: str, *args: Any, writer: str = "", **kwargs: Any) -> None:
        """Add to the run's own events, or to those of an operation."""
        if not self._failed:
            with self._guarded():
                getattr(self._operations[writer] if writer else self._writer, method)(*args, **kwargs)

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


def _session(entry: str, config: Mapping[str, Any]) -> list[Any]:
    """Return what the HParams tab is made of: its columns, the flags of this run, and its end.

    Flags that change no number are left out; those that are not at their default come first.
    """
    from tensorboard.plugins.hparams import plugin_data_pb2
    from torch.utils.tensorboard.summary import hparams

    flags, defaults = flags_of(ENTRIES[entry]), flat(ENTRIES[entry]())
    values = {
        n: value for n, value in config.items() if n in flags and flags[n].affects not in ("nothing", "last_bits")
    }
    plain = {n: value if type(value) in (int, float, str) else spell(value) for n, value in values.items()}
    columns, begun, end = hparams(plain, {FINAL_ACCURACY: None})
    packed = columns.value[0].metadata.plugin_data
    data = plugin_data_pb2.HParamsPluginData.FromString(packed.content)  # pyright: ignore[reportAttributeAccessIssue]
    for column in data.experiment.hparam_infos:
        column.differs = values[column.name] != defaults[column.name]
    packed.content = data.SerializeToString()
    return [columns, begun, end]


def _code(text: str) -> str:
    """Write text as a block of code in Markdown, whatever it holds."""
    return "\n".join("    " + line for line in text.strip().splitlines())
