"""Which form of a step is chosen, and what is reported where none fits."""

from dataclasses import replace

import pytest
import torch
from ranks import on_ranks

from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.errors import ExplainedError
from darts_hpc.memory.available import FreeMemory
from darts_hpc.memory.explain import choose_form, explaining_out_of_memory, table
from darts_hpc.memory.live_bytes import LiveBytes
from darts_hpc.memory.plan import MemoryPlan, plan_search
from darts_hpc.memory.predict import METHODS, Step
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.units import parse_bytes

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


@pytest.fixture(scope="module")
def whole() -> float:
    """What STEP needs."""
    return STEP.needed_bytes(batch_size=64, init_channels=4)


def plan(free: float, step: Step = STEP) -> MemoryPlan:
    return MemoryPlan(step, batch_size=64, init_channels=4, free=FreeMemory(free, "the test leaves"))


def test_what_fits_runs_as_asked(whole):
    form, line = plan(whole).choose("auto")
    assert form == STEP and "a step takes" in line and "finite differences" in line


def test_where_only_recomputed_cells_fit_they_are_taken_and_nothing_else_changes(whole):
    form, line = plan(whole - 1).choose("auto")
    assert form == RECOMPUTED_STEP
    assert "--checkpoint_cells" in line and "the test leaves" in line


def test_where_nothing_fits_the_line_names_what_would_and_it_does():
    tight = plan(RECOMPUTED_STEP.needed_bytes(batch_size=64, init_channels=4) - 1)
    form, line = tight.choose("auto")
    batch_size, init_channels = tight.largest(RECOMPUTED_STEP)
    assert form is None and f"--batch_size {batch_size} or --init_channels {init_channels} would fit" in line
    free = tight.free.num_bytes
    assert RECOMPUTED_STEP.needed_bytes(batch_size, 4) <= free < RECOMPUTED_STEP.needed_bytes(batch_size + 1, 4)
    assert RECOMPUTED_STEP.needed_bytes(64, init_channels) <= free < RECOMPUTED_STEP.needed_bytes(64, init_channels + 2)
    with pytest.raises(ExplainedError, match="would fit") as refusal:
        choose_form(tight, "auto", WORLD)
    assert refusal.value.explanation == table(tight) and "\n" not in str(refusal.value)


def test_warn_and_off_run_as_asked_whatever_is_free():
    assert plan(1).choose("warn")[0] == STEP and "may run out of memory" in plan(1).choose("warn")[1]
    assert plan(1).choose("off")[0] == STEP


def test_why_another_supernet_was_chosen_is_reported_whether_the_step_fits_or_not(whole):
    for free in (whole, whole - 1, 1):
        fallen_back = MemoryPlan(
            STEP, batch_size=64, init_channels=4, free=FreeMemory(free, "has"), fallback="no kernels"
        )
        assert fallen_back.choose("auto")[1].startswith("no kernels; a step ")


def test_unknown_free_memory_refuses_nothing():
    assert plan(float("inf")).choose("auto")[0] == STEP


def test_the_table_has_a_row_for_each_form_and_marks_the_one_asked_for(whole):
    header, asked, recomputed = table(plan(whole - 1)).splitlines()
    assert header.split()[:2] == ["plan", "needs"] and asked.startswith("> finite differences, stacked ")
    assert "--checkpoint_cells" in recomputed and " no " in asked and " yes " in recomputed
    assert len(table(plan(1), [replace(STEP, unrolled_method=None), STEP]).splitlines()) == 5


def test_out_of_memory_is_explained_by_the_table_and_other_errors_are_not_touched():
    with pytest.raises(ExplainedError, match="out of memory: CUDA") as end, explaining_out_of_memory(plan(1)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")
    assert end.value.explanation.startswith("plan")
    with pytest.raises(RuntimeError, match="shape"), explaining_out_of_memory(plan(1)):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("text", "size"), [("10GiB", 10 * 2**30), ("1.5 GB", 1_500_000_000), ("800mb", 800_000_000), ("4096", 4096)]
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


def fused_plan(free: float, **changes) -> MemoryPlan:
    step = replace(STEP, supernet="fused", unrolled_method=None, device="cuda", cuda_graph=True, **changes)
    return MemoryPlan(step, batch_size=64, init_channels=16, free=FreeMemory(free, "the GPU has free"))


def test_the_channels_named_for_the_fused_form_fit_though_each_number_takes_another_trace():
    roomy = fused_plan(float("inf"), image_size=16, num_images=50_000)
    needed = roomy.needed_bytes(replace(roomy.step, checkpoint_cells=True))
    for share in (0.5, 0.8):
        tight = fused_plan(share * needed, image_size=16, num_images=50_000)
        _, line = tight.choose("auto")
        named = int(line.split("--init_channels ")[1].split()[0])
        assert 0 < named < 16
        assert replace(tight.step, checkpoint_cells=True).needed_bytes(64, named) <= share * needed
    assert "not even one image would fit" in fused_plan(0).choose("auto")[1]


def test_no_more_channels_are_named_than_the_kernels_support():
    assert fused_plan(float("inf")).largest(STEP)[1] > 32
    assert fused_plan(float("inf")).largest(fused_plan(1).step)[1] == 32


def test_the_table_of_a_gpu_has_every_gradient():
    assert len(
        table(fused_plan(1e12), [replace(STEP, unrolled_method=method) for method in METHODS]).splitlines()
    ) == 1 + 2 * len(METHODS)


def test_beside_a_graph_which_keeps_its_memory_validation_needs_its_own():
    graphed = fused_plan(1).step
    eager = replace(graphed, cuda_graph=False)
    beside = graphed.needed_bytes(64, 16) - eager.needed_bytes(64, 16)
    supernet = build_supernet("fused", 16, 3, 10).to("meta").eval()
    with torch.no_grad(), LiveBytes() as live:
        supernet(torch.empty(64, 3, 8, 8, device="meta"))
    assert beside == pytest.approx(live.peak, rel=0.05)


def forms_where_one_rank_has_no_triton() -> tuple[str, str]:
    """What each rank plans on GPUs of which the second one's Triton fails."""
    with World.open("cpu") as world:
        gpu = World(torch.device("cuda", 0), rank=world.rank, size=world.size, control=world.control)

        def probe(device: torch.device, channels: int) -> None:
            if world.rank == 1:
                raise RuntimeError("no compiler")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("darts_hpc.models.supernet.fast.fused.probe", probe)
            patch.setattr("darts_hpc.memory.plan.memory_to_use", lambda *_: FreeMemory(1e12, "has"))
            made = plan_search(SearchConfig(), DatasetFacts(80, 20, 8, 10), gpu)
    return made.step.supernet, made.fallback or ""


def test_where_one_ranks_kernels_fail_all_ranks_take_torchs_operations_and_say_so():
    for form, why in on_ranks(2, forms_where_one_rank_has_no_triton):
        assert form == "stacked" and "(no compiler)" in why
