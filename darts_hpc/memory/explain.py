"""Explain a lack of memory by a table of the step's forms, before the step runs or after it ran out of memory."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from darts_hpc.distributed.world import World
from darts_hpc.errors import ExplainedError, is_out_of_memory
from darts_hpc.memory.plan import MOST, MemoryPlan, describe, readable_bytes
from darts_hpc.memory.predict import Step


def choose_form(plan: MemoryPlan, check: str, world: World) -> tuple[Step, str]:
    """Return the form of the step to run and why, the same on every rank. Raises ExplainedError where none fits."""
    form, line, forms = None, "", ""
    if world.is_main:
        form, line = plan.choose(check)
        forms = table(plan) if form is None else ""
    form, line, forms = world.broadcast_object((form, line, forms))
    if form is None:
        raise ExplainedError(line, forms) if world.is_main else ValueError(line)
    return form, line


def table(
    plan: MemoryPlan, methods: Iterable[str | None] | None = None, report: Callable[[Step], object] = lambda form: None
) -> str:
    """Return a table of the forms of the plan's step, for its own gradient method or for each of `methods`.

    `report` is called with each form before its memory is predicted, which takes a second or more.
    """
    methods = [plan.step.unrolled_method] if methods is None else methods
    rows = [("plan", "needs", "free", "fits", "largest batch_size", "largest init_channels")]
    for method in methods:
        for form in (replace(plan.step, unrolled_method=method, checkpoint_cells=cells) for cells in (False, True)):
            report(form)
            batch_size, init_channels = plan.largest(form)
            rows.append(
                (
                    ("> " if form == plan.step else "  ") + describe(form),
                    readable_bytes(plan.needed_bytes(form)),
                    readable_bytes(plan.free.num_bytes),
                    "yes" if plan.fits(form) else "no",
                    _count(batch_size),
                    "~" * (init_channels > 0 and not form.scales_with_channels) + _count(init_channels),
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(lines)


@contextmanager
def explaining_out_of_memory(plan: MemoryPlan) -> Iterator[None]:
    """Turn an out-of-memory error into one line and the plan's table."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
    else:
        return
    raise ExplainedError(f"out of memory: {said}", table(plan))


def _count(number: int) -> str:
    return f"over {MOST}" if number >= MOST else str(number) if number else "none"
