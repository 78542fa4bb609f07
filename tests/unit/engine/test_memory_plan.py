"""Which form of a step is taken, and what is said where none fits."""

from dataclasses import replace

import pytest
import torch

from darts_hpc.config.errors import ExplainedError
from darts_hpc.config.memory import parse_bytes
from darts_hpc.distributed.world import World
from darts_hpc.engine.free_memory import FreeMemory
from darts_hpc.engine.memory_plan import MemoryPlan, choose_form
from darts_hpc.engine.step_memory import Step

WORLD = World(torch.device("cpu"))
STEP = Step(
    supernet="stacked",
    checkpoint_cells=False,
    unrolled_method="finite_difference",
    layers=3,
    num_classes=10,
    image_size=8,
    num_images=100,
)
RECOMPUTED_STEP = replace(STEP, checkpoint_cells=True)
WHOLE, RECOMPUTED = (step.needed_bytes(batch_size=64, init_channels=4) for step in (STEP, RECOMPUTED_STEP))


def plan(free: float, step: Step = STEP) -> MemoryPlan:
    return MemoryPlan(step, batch_size=64, init_channels=4, free=FreeMemory(free, "the test leaves"))


def test_what_fits_runs_as_asked():
    form, line = plan(WHOLE).choose("auto")
    assert form == STEP and "a step takes" in line and "finite differences" in line


def test_where_only_recomputed_cells_fit_they_are_taken_and_nothing_else_changes():
    form, line = plan(WHOLE - 1).choose("auto")
    assert form == RECOMPUTED_STEP
    assert "--checkpoint_cells" in line and "the test leaves" in line


def test_where_nothing_fits_the_line_names_what_would_and_it_does():
    tight = plan(RECOMPUTED - 1)
    form, line = tight.choose("auto")
    batch_size, init_channels = tight.largest(RECOMPUTED_STEP)
    assert form is None and f"--batch_size {batch_size} or --init_channels {init_channels} would fit" in line
    free = tight.free.num_bytes
    assert RECOMPUTED_STEP.needed_bytes(batch_size, 4) <= free < RECOMPUTED_STEP.needed_bytes(batch_size + 1, 4)
    assert RECOMPUTED_STEP.needed_bytes(64, init_channels) <= free < RECOMPUTED_STEP.needed_bytes(64, init_channels + 2)
    with pytest.raises(ExplainedError, match="would fit") as refusal:
        choose_form(tight, "auto", WORLD)
    assert refusal.value.explanation == tight.table() and "\n" not in str(refusal.value)


def test_warn_and_off_run_as_asked_whatever_is_free():
    assert plan(1).choose("warn")[0] == STEP and "may run out of memory" in plan(1).choose("warn")[1]
    assert plan(1).choose("off")[0] == STEP


def test_unknown_free_memory_refuses_nothing():
    assert plan(float("inf")).choose("auto")[0] == STEP


def test_the_table_has_a_row_for_each_form_and_marks_the_one_asked_for():
    header, asked, recomputed = plan(WHOLE - 1).table().splitlines()
    assert header.split()[:2] == ["plan", "needs"] and asked.startswith("> finite differences, stacked ")
    assert "--checkpoint_cells" in recomputed and " no " in asked and " yes " in recomputed
    assert len(plan(1).table([None, "finite_difference"]).splitlines()) == 5


def test_out_of_memory_is_explained_by_the_table_and_other_errors_are_not_touched():
    with pytest.raises(ExplainedError, match="out of memory: CUDA") as end, plan(1).explaining_out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")
    assert end.value.explanation.startswith("plan")
    with pytest.raises(RuntimeError, match="shape"), plan(1).explaining_out_of_memory():
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("text", "size"), [("10GiB", 10 * 2**30), ("1.5 GB", 1_500_000_000), ("800mb", 800_000_000), ("4096", 4096)]
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


def test_what_convolutions_take_for_themselves_has_to_be_free_too():
    for device, form, cells, share in (("cpu", "stacked", True, 1.0), ("cuda", "stacked", False, 0.25)):
        step = replace(STEP, device=device, supernet=form, checkpoint_cells=cells)
        assert step.needed_bytes(64, 4) == int((1 + share) * step.peak_bytes(64, 4))
