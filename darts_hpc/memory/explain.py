"""Explain a lack of memory by a table of the step's forms, before the step runs or after it ran out of memory."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from darts_hpc.distributed.world import World
from darts_hpc.errors import ExplainedError, is_out_of_memory
from darts_hpc.memory.plan import MOST, AnyStep, MemoryPlan
from darts_hpc.units import readable_bytes


def choose_form(plan: MemoryPlan[AnyStep], check: str, world: World) -> tuple[AnyStep, str]:
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
    plan: MemoryPlan[AnyStep],
    variants: Sequence[AnyStep] | None = None,
    report: Callable[[AnyStep], object] = lambda form: None,
) -> str:
    """Return a table of the forms of the plan's step, or of each of `variants`.

    `report` is called with each form before its memory is predicted, which takes a second or more.
    """
    rows = [("plan", "needs", "free", "fits", "largest batch_size", "largest init_channels")]
    for step in [plan.step] if variants is None else variants:
        for form in (replace(step, checkpoint_cells=cells) for cells in (False, True)):
            report(form)
            batch_size, init_channels = plan.largest(form)
            rows.append(
                (
                    ("> " if form == plan.step else "  ") + form.title,
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
def fitting(plan: MemoryPlan[AnyStep], check: str, world: World) -> Iterator[tuple[AnyStep, str]]:
    """Yield what choose_form returns, and explain an out-of-memory error of what runs then."""
    form, line = choose_form(plan, check, world)
    with explaining_out_of_memory(plan):
        yield form, line


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
